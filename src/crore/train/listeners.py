"""Who hears a run's records: the log, the screen and the adapters hear the same ones.

The loop of rank 0 calls one `Listeners`; other ranks call one without listeners.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from crore.train.records import Checkpoint, End, Eval, Event, Record, Sample, Start, Step


class Listener(Protocol):
    """Who hears a run's records, on rank 0 alone."""

    def start(self, record: Start) -> None:
        """Hear that a run begins or goes on."""

    def step(self, record: Step) -> None:
        """Hear of one step; must take less than a millisecond."""

    def eval(self, record: Eval) -> None:
        """Hear of an evaluation."""

    def sample(self, record: Sample) -> None:
        """Hear what the model wrote."""

    def checkpoint(self, record: Checkpoint) -> None:
        """Hear of a checkpoint that is complete."""

    def event(self, record: Event) -> None:
        """Hear of something out of the ordinary."""

    def end(self, record: End) -> None:
        """Hear that the run ends."""

    def close(self) -> None:
        """Let go of files and the terminal; also called after an error, without `end` before."""


class Listeners:
    """Passes each record on to several listeners, in their order."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self.listeners = tuple(listeners)

    def start(self, record: Start) -> None:
        """Pass on a start."""
        self._tell(record)

    def step(self, record: Step) -> None:
        """Pass on a step."""
        self._tell(record)

    def eval(self, record: Eval) -> None:
        """Pass on an evaluation."""
        self._tell(record)

    def sample(self, record: Sample) -> None:
        """Pass on a sample."""
        self._tell(record)

    def checkpoint(self, record: Checkpoint) -> None:
        """Pass on a checkpoint."""
        self._tell(record)

    def event(self, record: Event) -> None:
        """Pass on an event."""
        self._tell(record)

    def end(self, record: End) -> None:
        """Pass on the end."""
        self._tell(record)

    def close(self) -> None:
        """Close all, last first; the first error is raised when all are closed."""
        errors: list[Exception] = []
        for listener in reversed(self.listeners):
            try:
                listener.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _tell(self, record: Record) -> None:
        for listener in self.listeners:
            getattr(listener, record.kind)(record)
