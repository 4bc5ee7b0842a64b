"""A run's folder: owned by one run at a time, and holding one run."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crore.errors import InputError
from crore.train.world import membership

LOG: Final = "run.jsonl"
CHECKPOINTS: Final = "checkpoint"
PLAN: Final = "plan.json"
MODEL: Final = "model.toml"
"""The model that `--scale small` cut down."""
TOKENIZER: Final = "tokenizer.json"
"""Of the text it was trained on."""
CHAT_TEMPLATE: Final = "chat_template.jinja"
"""How a conversation becomes text, where the run has learned one."""
JOB: Final = "job.pickle"
"""What the worlds of a fleet carry out."""
OF_A_FLEET: Final = ("world-[0-9]*", "island-[0-9]*")
"""Folders of a fleet's worlds, and of the checkpoints of its islands."""
LOCK: Final = ".lock"
"""Held by the process that was started."""
WRITER: Final = ".writer"
"""Held by the rank that writes."""
LEAVING_S: Final = 60.0
"""Ranks whose launcher was killed save a checkpoint and leave within this."""


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
    except OSError as error:
        raise InputError(f"cannot write the run's folder {folder}: {error.strerror}") from error
    with _held(folder, LOCK, 0.0):
        with writing(folder):  # nobody does any more
            if fresh:
                _clear(folder)
        yield


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the one process that writes to a run's folder.

    Waits for one that still leaves; raises InputError when it does not.
    """
    with _held(folder, WRITER, LEAVING_S):
        yield


@contextlib.contextmanager
def _held(folder: Path, name: str, patience_s: float) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends in whatever way."""
    try:
        lock = (folder / name).open("a")
    except OSError as error:
        raise InputError(f"cannot write the run's folder {folder}: {error.strerror}") from error
    with lock:
        end_s = time.monotonic() + patience_s
        while not _taken(lock.fileno()):
            if time.monotonic() >= end_s:
                raise InputError(
                    f"another run is going on in {folder}: wait for it, or give another --out"
                )
            time.sleep(0.1)
        yield


def _taken(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clear(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for pattern in (CHECKPOINTS, *OF_A_FLEET):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)
    for name in (LOG, PLAN, MODEL, TOKENIZER, CHAT_TEMPLATE, JOB):
        (folder / name).unlink(missing_ok=True)
