"""Sources to a dataset: read, learn a tokenizer, encode; or find what was prepared before.

The cache folder holds `tokenizers/` and `shards/`, named by the content they come from, and
`known/`, which leads from the names, sizes and times of the files to the shards without reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from crore import io
from crore.errors import InputError
from crore.train.data import shards
from crore.train.data.corpus import Document
from crore.train.data.dataset import Dataset
from crore.train.data.lock import alone
from crore.train.data.shards import Advance, Body
from crore.train.data.sources import Corpus, Source, open_corpus
from crore.train.data.split import group_hash, held_out, survey
from crore.train.data.tokenizer import (
    RECIPE,
    Encoder,
    check_size,
    load_encoder,
    thinned,
    train_tokenizer,
)

Progress = Callable[[str, float], None]
"""Told what is being done (`read`, `tokenizer`, `encode`, `wait`) and the share of it done."""


def prepare(
    sources: Sequence[Source], *, cache: Path, vocab: int, tokenizer: Path | None, seq_len: int,
    seed: int, progress: Progress | None = None,
) -> Dataset:  # fmt: skip
    """Return the dataset of `sources`, its tokens prepared in `cache` or found there.

    Any number of processes may call it at once: one prepares and the others wait. Without a
    `tokenizer`, one of at most `vocab` ids is trained. The same tokens serve any `seq_len`, `seed`
    and weights. Raises `InputError` for what cannot be read, is too small, or does not fit `vocab`.
    """
    if seq_len < 1 or not sources:
        raise InputError(f"a dataset needs a source and a sequence of 1 token or more: {seq_len}")
    tell = progress or (lambda _what, _share: None)
    corpora = [open_corpus(source) for source in sources]
    pointer = cache / "known" / _pointer(corpora, vocab, tokenizer)
    folder = _found(pointer)
    if folder is None:
        _make_folders(cache)
        with alone(cache / "lock", lambda: tell("wait", 0.0)) as held:
            folder = _found(pointer)
            if folder is None:
                folder = _build(corpora, cache, vocab, tokenizer, tell, held=held)
                io.write_text(pointer, folder.name)
    return Dataset(folder, sources, vocab=vocab, seq_len=seq_len, seed=seed)


def _pointer(corpora: Sequence[Corpus], vocab: int, tokenizer: Path | None) -> str:
    """Name what is asked for by what can be known without reading the texts."""
    asked = [
        (c.source.path, c.source.licence, c.about, str(c.root.resolve()), c.stamp())
        for c in corpora
    ]
    return _key(asked, vocab, None if tokenizer is None else io.read_text(tokenizer))


def _key(*parts: object) -> str:
    return hashlib.sha256(repr((shards.FORMAT, *parts)).encode()).hexdigest()[:24]


def _found(pointer: Path) -> Path | None:
    """Return the prepared folder that `pointer` names, when both are there."""
    if not pointer.is_file():
        return None
    folder = pointer.parents[1] / "shards" / io.read_text(pointer).strip()
    return folder if (folder / shards.CARD).is_file() else None


def _make_folders(cache: Path) -> None:
    try:
        for name in ("known", "shards", "tokenizers"):
            (cache / name).mkdir(parents=True, exist_ok=True)
        (cache / "lock").touch()
    except OSError as error:
        raise InputError(f"cannot write to {str(cache)[-80:]}: {error.strerror}") from error


def _build(
    corpora: Sequence[Corpus], cache: Path, vocab: int, tokenizer: Path | None, tell: Progress,
    *, held: bool,
) -> Path:  # fmt: skip
    """Read, tokenize and encode; return the folder of shards, which may be there already."""
    stamps = [corpus.stamp() for corpus in corpora]
    if tokenizer is not None:  # before the long work: it may not fit
        check_size(load_encoder(tokenizer).size, vocab, str(tokenizer))
    bodies = _read(corpora, tell)
    held_hashes = held_out([body.survey for body in bodies])
    path = tokenizer or _trained(bodies, held_hashes, cache, vocab, tell)
    encoder = load_encoder(path)
    folder = cache / "shards" / _folder_name(bodies, encoder)
    if not (folder / shards.CARD).is_file():
        if held:
            shards.sweep(folder.parent)
        advance = _share_done(sum(b.survey.total_bytes for b in bodies), "encode", tell)
        shards.write_shards(folder, bodies, held_hashes, encoder, advance)
    if stamps != [corpus.stamp() for corpus in corpora]:
        raise InputError("the files of a source changed while they were read: start again")
    return folder


def _read(corpora: Sequence[Corpus], tell: Progress) -> list[Body]:
    """Hash and count every source; raises `InputError` for one without text."""
    bodies: list[Body] = []
    advance = _share_done(sum(corpus.size_bytes() for corpus in corpora), "read", tell)
    for corpus in corpora:
        documents = _watched(corpus.documents(), advance)
        body = Body(corpus=corpus, survey=survey(documents), sha256=corpus.sha256())
        if not len(body.survey.hashes):
            raise InputError(f"source {corpus.source.path[-80:]} holds no text: only blanks")
        bodies.append(body)
    tell("read", 1.0)
    return bodies


def _trained(
    bodies: Sequence[Body], held: frozenset[int], cache: Path, vocab: int, tell: Progress
) -> Path:
    """Return the tokenizer of this corpus and size, trained once and kept."""
    path = cache / "tokenizers" / f"{_key(RECIPE, vocab, [b.sha256 for b in bodies])}.json"
    if not path.is_file():
        total = sum(body.survey.total_bytes for body in bodies)
        advance = _share_done(total, "tokenizer", tell)
        texts = (text for body in bodies for text in _training_texts(body, held, advance))
        io.write_text(path, train_tokenizer(thinned(texts, total), vocab))
        tell("tokenizer", 1.0)
    return path


def _training_texts(body: Body, held: frozenset[int], advance: Advance) -> Iterator[str]:
    """Yield what is not held out: the tokenizer, too, is not to see the rest."""
    for document in _watched(body.corpus.documents(), advance):
        if group_hash(document) not in held:
            yield document.text


def _watched(documents: Iterable[Document], advance: Advance) -> Iterator[Document]:
    """Yield documents, and tell their size once they are done with."""
    for document in documents:
        yield document
        advance(len(document.text))


def _folder_name(bodies: Sequence[Body], encoder: Encoder) -> str:
    parts = [
        (b.sha256, b.corpus.source.path, b.corpus.source.licence, b.corpus.about) for b in bodies
    ]
    return _key(encoder.sha256, parts)


def _share_done(total: int, what: str, tell: Progress) -> Advance:
    """Return a function that is told what was done, and tells the share each percent."""
    done, told = 0, 0.0
    tell(what, 0.0)

    def advance(amount: int) -> None:
        nonlocal done, told
        done += amount
        share = min(done / max(total, 1), 1.0)
        if share - told >= 0.01 or told < share == 1.0:
            told = share
            tell(what, share)

    return advance
