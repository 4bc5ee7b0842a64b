"""One process at a time, among those that share a folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

_POLL_S: Final = 0.05


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Hold the lock file `path`; `waiting` is called while another process holds it.

    Yields whether it is held: False where the system or the file system has no such locks, and
    then several may come in at once. The system frees the lock of a process that dies, so none is
    ever stale.
    """
    with path.open("a") as file:
        while (held := _take(file)) is None:
            waiting()
            time.sleep(_POLL_S)
        yield held


def _take(file: IO[str]) -> bool | None:
    """Return True when locked now, None when another holds it, False when there are no locks."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True
