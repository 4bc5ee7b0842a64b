"""Checkpoints as the loop makes them: begun between steps, finished beside them, told of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from crore.train.checkpoint import Checkpoints, Facts, SaveFailed
from crore.train.hang import Beat
from crore.train.records import Checkpoint, EventKind

SAVE_S: Final = 600.0
"""What a checkpoint may take before the rank counts as hung."""


@dataclass(kw_only=True, slots=True)
class _Begun:
    """A checkpoint that is being written."""

    step: int
    began_s: float
    """Of the clock that times steps."""
    blocked_s: float
    """What training waited for it so far."""


class Saving:
    """The checkpoints of a run, and which step the last one is of.

    `event` and `wrote` hear what became of each; `sync` makes the log durable before it.
    """

    def __init__(
        self, checkpoints: Checkpoints, folder: Path, beat: Beat, *, sync: Callable[[], None]
    ) -> None:
        self.checkpoints, self._folder, self._beat, self._sync = checkpoints, folder, beat, sync
        self._begun: _Begun | None = None
        self.kept: int | None = None
        """Step of the last checkpoint that was or is being written."""

    def begin(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Begin a checkpoint; it is written while training goes on. `finish` comes before."""
        self._beat.phase("checkpoint", SAVE_S)
        began_s = time.perf_counter()
        self._sync()
        self.checkpoints.save(step, tensors, facts)
        self.kept = step
        self._begun = _Begun(step=step, began_s=began_s, blocked_s=time.perf_counter() - began_s)

    def finish(
        self, event: Callable[[EventKind, str], None], wrote: Callable[[Checkpoint], None]
    ) -> None:
        """Wait for the checkpoint being written, and say what became of it."""
        if self._begun is not None:
            self._beat.phase("checkpoint", SAVE_S)
            self._tell(self._begun, event, wrote)
            self._begun = None
        self.tell_messages(event)

    def tell_messages(self, event: Callable[[EventKind, str], None]) -> None:
        """Say what reading and writing had to say."""
        for message in self.checkpoints.poll():
            event("damaged checkpoint" if "damaged" in message else "note", message)

    def _tell(
        self, begun: _Begun, event: Callable[[EventKind, str], None],
        wrote: Callable[[Checkpoint], None],
    ) -> None:  # fmt: skip
        began_s = time.perf_counter()
        try:
            self.checkpoints.wait()
        except SaveFailed as error:
            self.kept = None
            event("disk full" if _is_full(str(error)) else "note", str(error))
            return
        path = self.checkpoints.path(begun.step)
        if path is None:  # removed by hand, or not seen yet on a shared disk
            return
        now_s = time.perf_counter()
        wrote(
            Checkpoint(
                step=begun.step, path=os.path.relpath(path, self._folder),
                bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
                write_s=now_s - begun.began_s, blocked_s=begun.blocked_s + now_s - began_s,
            )
        )  # fmt: skip

    def restore(self, tensors: Mapping[str, Tensor], at_most: int | None = None) -> Facts | None:
        """Load the newest sound checkpoint, of at most so many steps and then for good."""
        if at_most is None:
            facts = self.checkpoints.restore(tensors)
        else:
            facts = self.checkpoints.roll_back(tensors, at_most)
        if facts is not None:
            self.kept = facts.step
        return facts


def _is_full(message: str) -> bool:
    return any(words in message for words in ("no space", "quota", "file too large"))
