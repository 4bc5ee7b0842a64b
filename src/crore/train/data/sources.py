"""What to train on: sources named on one line, each a folder, a file or the default corpus."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crore import io
from crore.errors import InputError, nearest, shown
from crore.train.data import corpus
from crore.train.data.corpus import Document
from crore.train.data.readers import (
    RECORD_SUFFIXES,
    TEXT_SUFFIXES,
    piece_chars,
    pieces,
    read_file,
)

DEFAULT: Final = "python"
"""Names the default corpus, both parts."""
DOCS, CODE = "python-docs", "python-code"
DOCS_SHARE: Final = 0.5
"""Of the samples of the default corpus: prose is a fifth of its text and what one reads."""
UNKNOWN_LICENCE: Final = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One body of text and its part of the samples."""

    path: str
    """A folder, a file, or `python-docs` or `python-code`."""
    weight: float | None = None
    """Part of the samples, before all are scaled to sum to 1; None: by size."""
    licence: str = UNKNOWN_LICENCE
    """Of the text, for the data card."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """A source found: its files and how to read them."""

    source: Source
    """As asked for."""
    about: str
    """What it is, for the data card."""
    root: Path
    """The folder the names of the files are relative to."""
    files: tuple[Path, ...]
    """In the order read."""
    documents: Callable[[], Iterator[Document]]
    """Reads them from the start; may be called again."""

    def stamp(self) -> str:
        """Return the names, sizes and times of the files: changes when any of them does.

        Raises `InputError` when one has gone.
        """
        try:
            facts = [(self._name(path), path.stat()) for path in self.files]
        except OSError as error:
            raise InputError(f"{str(error.filename)[-80:]} is gone: start again") from error
        return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts])

    def size_bytes(self) -> int:
        """Return the bytes of the files; of Parquet, compressed."""
        return sum(path.stat().st_size for path in self.files)

    def sha256(self) -> str:
        """Return the SHA-256 of the one file, or of all.

        Of several files it is that of their `sha256  name` lines; of the default corpus, that of
        its text.
        """
        if self.source.path in (DOCS, CODE):
            return _sha256(document.text for document in self.documents())
        if len(self.files) == 1:
            return _file_sha256(self.files[0])
        return _sha256(f"{_file_sha256(path)}  {self._name(path)}\n" for path in self.files)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def parse_sources(text: str) -> tuple[Source, ...]:
    """Read `[weight:]path[@licence],…`, as in `0.6:health/@CC-BY-4.0,0.3:finance.jsonl,python`.

    Raises `InputError` for an empty entry, a weight outside 1e-6 to 1e6, a source twice.
    """
    if any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text):
        raise InputError(f"the sources {shown(text)} hold characters that no name should")
    entries = [part.strip() for part in text.split(",")]
    if not all(entries):
        raise InputError(f"an empty source in {shown(text)}: write [weight:]path[@licence],…")
    found = [_parse(entry) for entry in entries]
    sources = [part for source in found for part in _expand(source, alone=len(found) == 1)]
    names = [source.path for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"source {shown(twice[0])} stands twice: give it once, with both weights")
    return tuple(sources)


def _parse(entry: str) -> Source:
    head, _, tail = entry.partition(":")
    try:
        weight = float(head) if tail else None
    except ValueError:  # no weight: a path that has a colon
        weight = None
    if weight is not None and not 1e-6 <= weight <= 1e6:
        raise InputError(f"the weight in {shown(entry)} must be a number from 0.000001 to 1000000")
    path = tail.strip() if weight is not None else entry
    bare, _, licence = path.rpartition("@")
    if bare and licence and not io.exists(Path(path)):
        return Source(path=bare, weight=weight, licence=licence)
    return Source(path=path, weight=weight)


def _expand(source: Source, *, alone: bool) -> list[Source]:
    """Split the default corpus in its two parts; beside others without a weight, by size."""
    if source.path != DEFAULT:
        return [source]
    weight = 1.0 if alone and source.weight is None else source.weight
    parts = ((DOCS, DOCS_SHARE), (CODE, 1 - DOCS_SHARE))
    return [
        replace(source, path=name, weight=None if weight is None else weight * share)
        for name, share in parts
    ]


def weights_of(sources: Sequence[Source], sizes: Sequence[float]) -> tuple[float, ...]:
    """Return the part of the samples each source gets, summing to 1.

    Sources without a weight share by size what the others leave of 1. Raises `InputError` when
    the others leave nothing.
    """
    given = sum(source.weight or 0.0 for source in sources)
    free = sum(size for source, size in zip(sources, sizes, strict=True) if source.weight is None)
    if not free:
        return tuple((source.weight or 0.0) / given for source in sources)
    if given >= 1:
        name = next(source.path for source in sources if source.weight is None)
        raise InputError(
            f"the weights given sum to {given:.4g} and leave nothing for {shown(name)}, which has "
            "none: give it one, or make the others sum to less than 1"
        )
    return tuple(
        size / free * (1 - given) if source.weight is None else source.weight
        for source, size in zip(sources, sizes, strict=True)
    )


def open_corpus(source: Source) -> Corpus:
    """Find the files of a source; raises `InputError` when there are none to read."""
    if source.path in (DOCS, CODE):
        return _python(source)
    path = Path(source.path)
    try:
        files = tuple(sorted(_walk(path))) if path.is_dir() else (path,)
        sizes = sum(file.stat().st_size for file in files)
    except FileNotFoundError as error:
        raise InputError(f"no file or folder {source.path[-80:]}{_siblings(path)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {source.path[-80:]}: {str(error)[:80]}") from error
    if not files:
        known = " ".join((*TEXT_SUFFIXES, *RECORD_SUFFIXES))
        raise InputError(f"folder {source.path[-80:]} has no file to read; read are {known}")
    if not sizes:
        raise InputError(f"{source.path[-80:]} is empty: give files with text")
    limit = piece_chars(sizes)
    return Corpus(
        source=source, about="text of the user", files=files,
        root=path if path.is_dir() else path.parent,
        documents=lambda: (Document(text) for file in files for text in read_file(file, limit)),
    )  # fmt: skip


def _python(source: Source) -> Corpus:
    root = corpus.library_folder()
    files = corpus.library_files(root)
    extract = corpus.documentation if source.path == DOCS else corpus.code

    @functools.cache  # read three times; parsing the library takes a second
    def load() -> tuple[Document, ...]:
        whole = list(extract(root))
        limit = piece_chars(sum(len(document.text) for document in whole))
        return tuple(
            Document(text, group)
            for whole_text, group in whole
            for text in pieces(whole_text.splitlines(keepends=True), limit)
        )

    return Corpus(
        source=replace(source, licence=corpus.LICENCE),
        about=f"standard library of {platform.python_implementation()} {platform.python_version()}",
        root=root, files=files, documents=lambda: iter(load()),
    )  # fmt: skip


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of known kinds below a folder, hidden ones left out."""
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(above) / name for name in names if not name.startswith(".")):
            known = path.suffix.lower() in TEXT_SUFFIXES + RECORD_SUFFIXES
            if known and path.is_file():  # no pipe, no link to nowhere
                yield path


def _siblings(path: Path) -> str:
    """Return a hint naming what lies in the same folder and looks like `path`."""
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(path.name, [*names, DEFAULT])
    hint = ", ".join(name[:40] for name in near)
    return f"; did you mean {hint}?" if near else f" (or write {DEFAULT}, the default corpus)"


def _sha256(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
