"""One history of a fleet from the logs of its worlds: each step once, told by the first to log it.

Every start of a world writes a log of its own, which only grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from crore.errors import CroreError
from crore.train.lines import record_of
from crore.train.records import End, Event, Record, Start, Step


@dataclass(kw_only=True, slots=True)
class Log:
    """A log that is read as it grows."""

    path: Path
    read: int = 0

    def news(self) -> Iterator[Record]:
        """Yield the records that are whole and new; a line that is no record is passed over."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.read)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            try:
                yield record_of(line.decode("utf-8", "replace"), self.path.name)
            except CroreError:
                continue


@dataclass(kw_only=True, slots=True)
class Seen:
    """What a world's log said last."""

    step: int = 0
    worlds: tuple[int, ...] = ()
    """That took it."""
    end: End | None = None
    since_s: float = 0.0
    """Of the clock when it last said something."""


@dataclass(kw_only=True, slots=True)
class History:
    """Which records of all worlds' logs are the fleet's own, in order."""

    step: int = 0
    """The last one told."""
    islands: int = 1
    """A roll back of one of several is its own, and takes no step of the fleet back."""
    worlds: dict[int, Seen] = field(default_factory=dict)
    _started: bool = False
    _told: set[tuple[str, int]] = field(default_factory=set)
    _stepped: str = ""
    """When the last step told was logged."""
    _back: Event | None = None
    """The last roll back told."""

    def hear(self, world: int, record: Record, now_s: float) -> Iterator[Record]:
        """Yield what a record of a world's log adds to the fleet's history."""
        seen = self.worlds.setdefault(world, Seen())
        seen.since_s = now_s
        if isinstance(record, Start | Step | End):
            yield from self._heard(world, seen, record)
        elif not isinstance(record, Event):
            key = (record.kind, record.step)
            if key not in self._told and not self._undone(record):
                self._told.add(key)
                yield record
        elif record.what == "roll back" and self.islands == 1:
            yield from self._rolled_back(record)
        elif record.what != "outer step":
            what = "note" if record.what == "roll back" else record.what
            yield replace(record, what=what, message=f"world {world}: {record.message}")

    def _heard(self, world: int, seen: Seen, record: Start | Step | End) -> Iterator[Record]:
        if isinstance(record, End):
            seen.end = record
        elif isinstance(record, Step):
            seen.step, seen.worlds = record.step, record.worlds or (world,)
            if record.step > self.step and not self._undone(record):
                self.step, self._stepped = record.step, record.time
                yield record
        else:
            seen.end = None
            if not self._started:
                self._started, self.step = True, record.step
                yield record

    def _rolled_back(self, record: Event) -> Iterator[Record]:
        """Go back, once: each world of an island logs it, before any takes the next step."""
        last = self._back
        if record.time < self._stepped:
            return
        if last and self._stepped <= last.time and replace(last, time=record.time) == record:
            return
        self.step, self._back = min(self.step, record.step), record
        self._told = {key for key in self._told if key[1] <= record.step}
        yield record

    def _undone(self, record: Record) -> bool:
        """Return whether a roll back that is told already took a record back."""
        back = self._back
        return back is not None and record.step > back.step and record.time < back.time
