"""run.jsonl: every record of a run as it happens, one line each, appended by rank 0 alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from crore.errors import InputError
from crore.io import write_text
from crore.train.history import HAPPENED, read_lines, resumed, roll_back
from crore.train.lines import line_of
from crore.train.records import Checkpoint, End, Eval, Event, Record, Sample, Start, Step


def append(path: Path, event: Callable[[int], Event]) -> None:
    """Add an event to the log of a run that no process writes to; a torn last line goes.

    `event` is given the last step that the log tells of. Without a log there is nothing to add to.
    """
    if not path.exists():
        return
    told = read_lines(path)
    last = max((record.step for _, record in told), default=0)
    write_text(path, "".join(f"{line}\n" for line, _ in told) + line_of(event(last)))


class RunLog:
    """Appends records to run.jsonl; a `Listener`.

    A start at step s cuts the file back to what is still true at s, so that it reads as one
    uninterrupted history; so does a roll back, but not in a log that only `grows`: who follows it
    would be lost, and readers take such steps back. Each line reaches the operating system at once:
    it survives a killed process. `sync` makes it survive a power cut.

    When the disk is full the lines wait in memory and training goes on; `on_error` is told once.
    """

    def __init__(
        self, path: Path, on_error: Callable[[str], None] | None = None, *, grows: bool = False
    ) -> None:
        self.path, self._grows = path, grows
        self._on_error = on_error
        self._file: FileIO | None = None
        self._waiting = bytearray()
        self._failed = False

    def start(self, record: Start) -> None:
        """Begin a new file, or go on with the old one after what is true at the start's step.

        Raises `InputError` when the file cannot be written or holds a line that is no record.
        """
        begun = self.path.exists()
        lost, happened = self._go_on(record.step)
        lost = lost if begun else None
        self._write(record)
        for event in happened:
            self._write(event)
        if record.step:
            note = f"; the log lacks steps {lost[0]} to {lost[1]}" if lost else ""
            message = f"goes on after step {record.step:,} on {record.world_size} ranks{note}"
            self._write(Event(step=record.step, what="resume", message=message, time=record.time))

    def step(self, record: Step) -> None:
        """Append a step."""
        self._write(record)

    def eval(self, record: Eval) -> None:
        """Append an evaluation."""
        self._write(record)

    def sample(self, record: Sample) -> None:
        """Append a sample."""
        self._write(record)

    def checkpoint(self, record: Checkpoint) -> None:
        """Append a checkpoint."""
        self._write(record)

    def event(self, record: Event) -> None:
        """Append an event; a roll back takes back the steps after the one it goes to."""
        if record.what == "roll back" and not self._grows:
            self._take_back(record.step)
        self._write(record)

    def end(self, record: End) -> None:
        """Append the end, and make all of it survive a power cut."""
        self._write(record)
        self.sync()

    def sync(self) -> None:
        """Have every line on the disk: to be called before a checkpoint takes its name."""
        self._flush()
        if self._file is not None and not self._failed:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; lines for which the disk had no room are lost."""
        if self._file is not None:
            self._flush()
            self._file.close()
            self._file = None

    def _go_on(self, step: int) -> tuple[tuple[int, int] | None, list[Record]]:
        """Keep what is true at the checkpoint of `step`, and open the file to append.

        Returns the first and last step missing before `step`, which a power cut can take; and
        what happened in earlier attempts, where the run begins anew and its start comes first.
        """
        if not step:
            happened = self._happened()
            self._rewrite([])
            return None, happened
        kept = resumed(read_lines(self.path) if self.path.exists() else [], step)
        self._rewrite(kept)
        last = max((record.step for _, record in kept if isinstance(record, Step)), default=0)
        return ((last + 1, step) if last < step else None), []

    def _happened(self) -> list[Record]:
        try:
            old = read_lines(self.path)
        except InputError:  # none, or not ours to keep
            return []
        return [r for _, r in resumed(old, 0) if isinstance(r, Event) and r.what in HAPPENED]

    def _take_back(self, step: int) -> None:
        """Cut the file back to `step`; on a full disk readers do it by the event that follows."""
        if self._failed:
            return
        try:
            self._rewrite(roll_back(read_lines(self.path), step))
        except InputError as error:
            self._warn(str(error))

    def _rewrite(self, kept: list[tuple[str, Record]]) -> None:
        write_text(self.path, "".join(f"{line}\n" for line, _ in kept))
        self.close()
        try:
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"cannot write {self.path.name}: {error.strerror}") from error

    def _write(self, record: Record) -> None:
        self._waiting += line_of(record).encode("utf-8")
        self._flush()

    def _flush(self) -> None:
        """Hand over what waits; a part that was taken is never written twice."""
        if self._file is None:
            return
        try:
            while self._waiting:
                del self._waiting[: self._file.write(self._waiting)]
            self._failed = False
        except OSError as error:
            before, self._failed = self._failed, True
            if not before:
                self._warn(f"{self.path.name} waits in memory: {error.strerror}")

    def _warn(self, message: str) -> None:
        if self._on_error is not None:
            self._on_error(message)
