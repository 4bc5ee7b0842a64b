"""The head of every JSON document: which command wrote it, from which constants."""

import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from crore.errors import InputError

_COMMAND: ContextVar[str] = ContextVar("command", default="crore")


@contextlib.contextmanager
def called_as(words: Sequence[str]) -> Iterator[None]:
    """Remember the command line for the documents written inside."""
    token = _COMMAND.set(shlex.join(["crore", *words]))
    try:
        yield
    finally:
        _COMMAND.reset(token)


def command_line() -> str:
    """Return the command line as one would type it again."""
    return _COMMAND.get()


@cache
def constants_sha256() -> str:
    """Return the hash of every figure crore ships: fitted constants, parts, models, prices."""
    from crore.catalog.load import DATA

    total = hashlib.sha256()
    for path in sorted(DATA.glob("*.toml")):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def writable(path: Path, flag: str = "") -> None:
    """Raise InputError where no file can go, before the work is done: no such folder, or closed.

    `flag` is what messages begin with.
    """
    from crore.io import exists

    cannot = f"{flag} cannot write {str(path)[-60:]}".strip()
    folder = path.parent
    if exists(path) and path.is_dir():
        raise InputError(f"{cannot}: a folder has that name")
    if not (exists(folder) and folder.is_dir()):
        raise InputError(f"{cannot}: there is no folder {str(folder)[-80:]}")
    if not os.access(folder, os.W_OK):
        raise InputError(f"{cannot}: its folder is closed to you")


def headed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's body behind the command and the constants it came from."""
    return {"command": command_line(), "constants_sha256": constants_sha256(), **record}


def dumped(kind: str, version: int, record: Mapping[str, Any]) -> str:
    """Return a document as JSON text."""
    from crore.io import dump_json

    return dump_json(kind, version, headed(record))


def written(path: Path, kind: str, version: int, record: Mapping[str, Any]) -> None:
    """Write a document to a file."""
    from crore.io import write_json

    write_json(path, kind, version, headed(record))
