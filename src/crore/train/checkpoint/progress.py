"""How far a restore has come: gigabytes are read twice, once to verify them and once to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Progress = Callable[[str, int, int], None]
"""Called with what is done (`verify`, `load`), the bytes done so far on this rank, and of all."""
CHUNK_BYTES: Final = 1 << 24
"""Hashed between two calls; a few hundredths of a second."""


class Meter:
    """Counts bytes and passes the count on."""

    def __init__(self, what: str, total_bytes: int, progress: Progress | None) -> None:
        self._what, self._total_bytes, self._progress = what, total_bytes, progress
        self._done_bytes = 0

    def advance(self, count_bytes: int) -> None:
        """Note that `count_bytes` more are done."""
        self._done_bytes += count_bytes
        if self._progress is not None:
            self._progress(self._what, self._done_bytes, self._total_bytes)
