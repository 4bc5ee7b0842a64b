"""What a checkpoint says of itself, and whether its files are still those that were written.

`manifest.json` holds the size and SHA-256 of every file, the names, shapes and types of all
tensors, and the facts of the run; `manifest.sha256` holds the manifest's own digest in the form
that `sha256sum --check` reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from crore.errors import CroreError, InputError
from crore.io import read_json, write_json, write_text
from crore.train.checkpoint.progress import CHUNK_BYTES, Meter, Progress
from crore.train.checkpoint.team import Team, first_line

KIND: Final = "checkpoint"
VERSION: Final = 1
NAME: Final = "manifest.json"
DIGEST_NAME: Final = "manifest.sha256"


class Damaged(CroreError):
    """A checkpoint is not what was written; the message says which file and how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of a checkpoint."""

    size_bytes: int
    """Of the whole file."""
    sha256: str
    """Of the whole file, in hexadecimal digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Shape and type of one whole tensor, whatever share of it a rank holds."""

    shape: list[int]
    """Of the unsharded tensor."""
    dtype: str
    """As torch names it: `float32`."""

    @classmethod
    def of(cls, shape: Iterable[int], dtype: object) -> Kind:
        """Return the kind of a tensor of this shape and torch dtype."""
        return cls(shape=list(shape), dtype=str(dtype).removeprefix("torch."))

    def __str__(self) -> str:
        return f"{self.dtype}{self.shape}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The contents of one checkpoint."""

    step: int
    """Optimizer steps done."""
    torch: str
    """Version of torch that wrote it."""
    ranks: int
    """Processes that wrote it."""
    files: dict[str, File]
    """By name inside the checkpoint's folder."""
    tensors: dict[str, Kind]
    """By fully qualified name."""
    facts: dict[str, Any]
    """What the trainer wants back besides tensors."""


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest and its digest; both are on the disk when this returns.

    Raises `OSError` where they cannot be written: a full disk is no bad input.
    """
    try:
        write_json(folder / NAME, KIND, VERSION, asdict(manifest))
        write_text(folder / DIGEST_NAME, _digest_line((folder / NAME).read_bytes()))
    except InputError as error:
        raise error.__cause__ or error from None


def read(folder: Path) -> Manifest:
    """Read a manifest.

    Raises `Damaged` when it is not the one written, `InputError` when a newer crore wrote it.
    """
    try:
        content = (folder / NAME).read_bytes()
        expected = (folder / DIGEST_NAME).read_bytes()
    except OSError as error:
        raise Damaged(f"{Path(error.filename).name}: {first_line(error)}") from error
    if expected != _digest_line(content).encode():
        raise Damaged(f"{NAME}: SHA-256 differs")
    record = read_json(folder / NAME, KIND, VERSION)
    return Manifest(
        step=record["step"],
        torch=record["torch"],
        ranks=record["ranks"],
        files={name: File(**file) for name, file in record["files"].items()},
        tensors={name: Kind(**kind) for name, kind in record["tensors"].items()},
        facts=record["facts"],
    )


def verify(team: Team, folder: Path, manifest: Manifest, progress: Progress | None = None) -> None:
    """Raise `Damaged` on every rank unless all files are as written; each is hashed once."""
    mine = sorted(manifest.files)[team.rank :: team.size]
    meter = Meter("verify", sum(manifest.files[name].size_bytes for name in mine), progress)

    def check() -> str | None:
        problems = (_problem(folder / name, manifest.files[name], meter) for name in mine)
        return next(filter(None, problems), None)

    problem = team.reduce(check, lambda found: next(filter(None, found), None) or "")
    if problem:
        raise Damaged(problem)


def check_model(
    team: Team, folder: Path, manifest: Manifest, tensors: Mapping[str, Tensor]
) -> None:
    """Raise `InputError` on every rank unless the ranks together hold exactly the saved tensors.

    The message gives the first difference.
    """
    names = sorted(manifest.tensors)

    def compare() -> tuple[str, int]:
        held = sum(1 << bit for bit, name in enumerate(names) if name in tensors)
        return _difference(manifest, tensors), held

    def combine(parts: list[tuple[str, int]]) -> str:
        held = reduce(or_, (bits for _, bits in parts))
        lost = (name for bit, name in enumerate(names) if not held >> bit & 1)
        absent = next((f"it has {name}, which the model lacks" for name in lost), "")
        return next(filter(None, (text for text, _ in parts)), absent)

    if difference := team.reduce(compare, combine):
        raise InputError(f"{folder.name} is of another model: {difference}; name another folder")


def _difference(manifest: Manifest, tensors: Mapping[str, Tensor]) -> str:
    """Return how this rank's tensors first differ from the saved ones, "" where they agree."""
    for name in sorted(tensors):
        mine = Kind.of(tensors[name].shape, tensors[name].dtype)
        there = manifest.tensors.get(name)
        if there is None:
            return f"it lacks {name}"
        if there != mine:
            return f"{name} is {there} there, {mine} here"
    return ""


def _problem(path: Path, expected: File, meter: Meter) -> str | None:
    """Return what is wrong with one file, None where it is as written."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes != expected.size_bytes:
            return f"{path.name}: {size_bytes:,} of {expected.size_bytes:,} bytes"
        digest = _sha256(path, meter)
    except OSError as error:
        return f"{path.name}: {first_line(error)}"
    return None if digest == expected.sha256 else f"{path.name}: SHA-256 differs"


def _sha256(path: Path, meter: Meter) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            meter.advance(len(chunk))
    return digest.hexdigest()


def _digest_line(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()}  {NAME}\n"
