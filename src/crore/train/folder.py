"""A run's folder: owned by one run at a time, and holding one run."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from crore.errors import InputError
from crore.train.world import membership

LOCK = ".lock"


@contextlib.contextmanager
def own(folder: Path, *, fresh: bool) -> Iterator[None]:
    """Hold a run's folder while it runs; `fresh` clears the run that is in it.

    Ranks of a world that others started leave that to rank 0. Raises InputError when another run
    holds it, and when it cannot be made.
    """
    who = membership(os.environ)
    if who is not None and who.rank > 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise InputError(f"cannot write the run's folder {folder}: {error.strerror}") from error
    with lock:
        _take(lock.fileno(), folder)
        if fresh:
            _clear(folder)
        yield


def _take(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(
            f"another run is going on in {folder}: wait for it, or give another --out"
        ) from error


def _clear(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    for name in ("run.jsonl", "plan.json", "model.toml"):
        (folder / name).unlink(missing_ok=True)
