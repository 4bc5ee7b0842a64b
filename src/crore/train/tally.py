"""What is to be shown of a run, folded record by record: the screen's state and the summary's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from crore.train.meters import Pace
from crore.train.records import Checkpoint, End, Eval, Event, Record, Sample, Start, Step


@dataclass(frozen=True, kw_only=True, slots=True)
class Crew:
    """The worlds of a fleet so far."""

    there: int = 0
    """In the last step; 0 for a world alone."""
    lost: int = 0
    """Times that a world was not in the next step."""
    back: int = 0
    """Times that one came to it."""
    stalled_s: float = 0.0
    """Between steps, beyond the steps themselves, where the worlds changed."""

    def after(self, before: Step | None, step: Step) -> Crew:
        """Return the same with one step more."""
        if step.worlds is None:
            return self
        there = len(step.worlds)
        if before is None or before.worlds is None or before.worlds == step.worlds:
            return replace(self, there=there)
        old, new = set(before.worlds), set(step.worlds)
        between_s = (_time(step) - _time(before)).total_seconds() - step.step_time_s
        return Crew(
            there=there, lost=self.lost + len(old - new), back=self.back + len(new - old),
            stalled_s=self.stalled_s + max(between_s, 0.0),
        )  # fmt: skip


def _time(step: Step) -> dt.datetime:
    return dt.datetime.fromisoformat(step.time)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """A run so far."""

    start: Start | None = None
    """The last one."""
    done: int = 0
    """Steps done."""
    step: Step | None = None
    """The last one; None before the first of this process and after a roll back."""
    evals: tuple[Eval, ...] = ()
    sample: Sample | None = None
    """The last one."""
    checkpoint: Checkpoint | None = None
    """The last one."""
    end: End | None = None
    pace: Pace = field(default_factory=Pace)
    """Of this process."""
    peak_bytes: float = 0.0
    """Peak of rank 0, or of the fullest rank at the end."""

    crew: Crew = field(default_factory=Crew)
    """Of a fleet: how its worlds fared."""

    def after(self, record: Record) -> Tally:
        """Return the tally with one record more; one that is passed in order, each once."""
        match record:
            case Step():
                return replace(
                    self, step=record, done=record.step, peak_bytes=record.memory_bytes,
                    pace=self.pace.after(record.step_time_s),
                    crew=self.crew.after(self.step, record),
                )  # fmt: skip
            case Start():
                return replace(
                    self.back_to(record.step), start=record, end=None, pace=Pace(), peak_bytes=0.0
                )
            case Event(what="roll back"):
                return self.back_to(record.step)
            case Eval():
                return replace(self, evals=(*self.evals, record))
            case Sample():
                return replace(self, sample=record)
            case Checkpoint():
                return replace(self, checkpoint=record)
            case End():
                return replace(self, end=record, done=record.step, peak_bytes=record.memory_bytes)
            case Event():
                return self

    def back_to(self, step: int) -> Tally:
        """Return the tally without what came after a step."""
        kept = tuple(it for it in self.evals if it.step <= step)
        return replace(self, done=step, step=None, evals=kept)

    @property
    def steps_left(self) -> int:
        """Steps until the run is finished; none where more are taken than were planned."""
        return max(self.start.steps - self.done, 0) if self.start else 0


def tally_of(records: Iterable[Record]) -> Tally:
    """Return the tally of records in their order: of `read_run(path).records`, for a resume."""
    tally = Tally()
    for record in records:
        tally = tally.after(record)
    return tally
