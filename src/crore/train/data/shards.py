"""Token shards on disk: written whole or not at all, memory-mapped, checked when opened.

A folder holds, for source number i, `i-train.tokens` and `i-validation.tokens` (ids, every
document closed by its end of text), `i-validation.bytes` (the bytes of text each of those ids
covers, uint32), the `tokenizer.json`, and last the data card, `card.json`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crore import io
from crore.errors import InputError
from crore.train.data.corpus import Document
from crore.train.data.sources import Corpus
from crore.train.data.split import RULE, Survey, group_hash
from crore.train.data.tokenizer import Encoder

FORMAT: Final = 1
"""Of the folder and the extraction of text; part of the cache key and the schema's version."""
CARD, TOKENIZER = "card.json", "tokenizer.json"
_BATCH_CHARS: Final = 1_000_000
"""Text encoded at once: some 100 MB of memory."""
_PARTS: Final = ("train", "validation")

Record = dict[str, Any]
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """One source on its way to shards."""

    corpus: Corpus
    """Its files."""
    survey: Survey
    """Its documents, counted."""
    sha256: str
    """Of its files."""


def write_shards(
    folder: Path, bodies: Sequence[Body], held: frozenset[int], encoder: Encoder, advance: Advance
) -> None:
    """Encode every source into `folder`, which appears only when all of it is on the disk.

    `held` are the hashes held out; `advance` is told the bytes of text done. When another process
    has put `folder` there meanwhile, its work is kept. Raises `InputError` when it cannot write.
    """
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        draft.mkdir(parents=True)
        sources = [
            _write_source(draft, number, body, held, encoder, advance)
            for number, body in enumerate(bodies)
        ]
        io.write_text(draft / TOKENIZER, encoder.text)
        io.write_json(draft / CARD, "data-card", FORMAT, _card(draft, sources, encoder))
        _settle(draft, folder)
    except OSError as error:
        raise InputError(
            f"cannot write tokens to {str(folder.parent)[-80:]}: {error.strerror}; nothing is kept"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what killed preparations left in `parent`; only for the holder of its lock."""
    for draft in parent.glob(".*.partial"):
        shutil.rmtree(draft, ignore_errors=True)


def _settle(draft: Path, folder: Path) -> None:
    """Give the finished draft its name, unless another process was first."""
    _sync(draft)
    try:
        draft.rename(folder)
    except OSError:
        if not (folder / CARD).exists():
            raise
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_source(
    draft: Path, number: int, body: Body, held: frozenset[int], encoder: Encoder, advance: Advance
) -> Record:
    """Write the shards of one source and return its entry of the card."""
    counts = {part: {"documents": 0, "bytes": 0, "tokens": 0} for part in _PARTS}
    dtype = dtype_of(encoder.size)
    with contextlib.ExitStack() as stack:
        files = {
            name: stack.enter_context((draft / f"{number}-{name}").open("wb"))
            for name in ("train.tokens", "validation.tokens", "validation.bytes")
        }
        for documents in _batches(body.corpus.documents()):
            kept, out = _divide(documents, held)
            if kept:
                ids = encoder.encode_many(kept)
                files["train.tokens"].write(ids.astype(dtype).tobytes())
                _count(counts["train"], kept, len(ids))
            if out:
                ids, lengths = encoder.encode_measured(out)
                files["validation.tokens"].write(ids.astype(dtype).tobytes())
                files["validation.bytes"].write(lengths.tobytes())
                _count(counts["validation"], out, len(ids))
            advance(sum(len(document.text.encode()) for document in documents))
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    source = body.corpus.source
    return {
        "path": source.path, "about": body.corpus.about, "licence": source.licence,
        "sha256": body.sha256, "files": len(body.corpus.files),
        "bytes": body.survey.total_bytes, "documents": len(body.survey.hashes), **counts,
    }  # fmt: skip


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _divide(documents: list[Document], held: frozenset[int]) -> tuple[list[str], list[str]]:
    """Return the texts to train on and those held out."""
    sides: tuple[list[str], list[str]] = ([], [])
    for document in documents:
        sides[group_hash(document) in held].append(document.text)
    return sides


def _count(counts: dict[str, int], texts: list[str], tokens: int) -> None:
    counts["documents"] += len(texts)
    counts["bytes"] += sum(len(text.encode()) for text in texts)
    counts["tokens"] += tokens


def dtype_of(size: int) -> np.dtype[Any]:
    """Return the smallest of uint16 and uint32 that holds ids below `size`, little-endian."""
    return np.dtype("<u2" if size <= 65_536 else "<u4")


def _card(draft: Path, sources: list[Record], encoder: Encoder) -> Record:
    total = {
        key: sum(source[part][key] for source in sources for part in _PARTS)
        for key in ("bytes", "tokens", "documents")
    }
    files = sorted(path for path in draft.iterdir() if path.name != CARD)
    return {
        **total,
        "bytes_per_token": total["bytes"] / max(total["tokens"], 1),
        "sources": sources,
        "split": RULE,
        "tokenizer": {
            "sha256": encoder.sha256, "size": encoder.size, "end_of_text": encoder.end
        },
        "dtype": dtype_of(encoder.size).name,
        "file_bytes": {path.name: path.stat().st_size for path in files},
    }  # fmt: skip


def read_card(folder: Path) -> Record:
    """Read the data card and check that every file has the size it names.

    Raises `InputError` when one is missing or cut short.
    """
    card = io.read_json(folder / CARD, "data-card", FORMAT)
    for name, size in card["file_bytes"].items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else 0
        if found != size:
            raise InputError(
                f"{name} has {found:,} bytes but its card says {size:,}: the prepared data is "
                f"damaged; remove {str(folder)[-80:]} and start again"
            )
    return card


def open_tokens(folder: Path, number: int, part: str, card: Mapping[str, Any]) -> NDArray[Any]:
    """Map the ids of a part (`train`, `validation`) of source `number` into memory, `[tokens]`."""
    dtype = np.dtype(card["dtype"]).newbyteorder("<")
    return _mapped(folder / f"{number}-{part}.tokens", dtype)


def open_lengths(folder: Path, number: int) -> NDArray[Any]:
    """Map the bytes of text of each validation id of source `number` into memory, `[tokens]`."""
    return _mapped(folder / f"{number}-validation.bytes", np.dtype("<u4"))


def _mapped(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
