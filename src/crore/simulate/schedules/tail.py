"""What follows a step's passes: gradients reduced, the optimizer, weights gathered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crore.cost import Job, Operation
from crore.cost.measured import MeasuredPricer
from crore.cost.price import Pricer
from crore.cost.step_time import hide
from crore.simulate.schedules.draw import Slice
from crore.simulate.schedules.events import Floats, Played

STREAM = "dp, once a step"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """Once-a-step operations, in the planner's prices; the same on every rank, as it has them."""

    before: tuple[tuple[str, float], ...]
    """Messages before the optimizer: (name, seconds)."""
    update: tuple[tuple[str, float], ...]
    """The optimizer, states copied from the host and the host's own work."""
    after: tuple[tuple[str, float], ...]
    """Messages after it."""
    shown: float
    """Share of the messages that compute does not hide."""
    ends_s: Floats
    """[ranks] when each rank's last pass ends, micro-batches that were not played included."""
    more_s: float
    """What these take."""

    @property
    def update_s(self) -> float:
        """When the optimizer begins: its norm needs the gradients of all ranks."""
        return float(self.ends_s.max()) + self.shown * sum(s for _, s in self.before)

    @property
    def end_s(self) -> float:
        """When all is done."""
        gathered_s = self.shown * sum(s for _, s in self.after)
        return self.update_s + sum(s for _, s in self.update) + gathered_s

    def slices(self, ranks: tuple[int, ...]) -> Iterator[Slice]:
        """Yield the slices of some ranks.

        What of the gradients' messages is hidden runs beside the last passes; what of the weights'
        is hidden runs beside the next step's first, and is not drawn.
        """
        for rank in ranks:
            if self.more_s:
                at = float(self.ends_s[rank]) - self.more_s
                yield Slice(rank, "compute", "micro-batches not played", at, self.more_s, {})
            at = float(self.ends_s[rank]) - (1 - self.shown) * sum(s for _, s in self.before)
            for name, seconds in self.before:
                yield Slice(rank, STREAM, name, max(at, 0.0), seconds, {"message_s": seconds})
                at += seconds
            at = self.update_s
            for name, seconds in self.update:
                yield Slice(rank, "compute", name, at, seconds, {})
                at += seconds
            for name, seconds in self.after:
                about = {"message_s": seconds, "next_step_hides_s": (1 - self.shown) * seconds}
                yield Slice(rank, STREAM, name, at, self.shown * seconds, about)
                at += self.shown * seconds


def tail_of(
    job: Job, ops: list[Operation], pricer: Pricer | MeasuredPricer, played: Played, *,
    slowest_s: float, more_s: float,
) -> Tail:  # fmt: skip
    """Return what a job does once per step, `more_s` after the pipeline as it was played.

    One micro-batch of the slowest rank, `slowest_s`, can hide the messages, as in the planner.
    """
    once = [op for op in ops if op.repeat == "step"]
    sent = [op for op in once if op.kind == "collective"]
    local = [op for op in once if op.kind in ("optimizer", "transfer")]
    messages = [(op, float(pricer.seconds(op) * op.count)) for op in sent]
    whole_s = sum(s for _, s in messages)
    c = pricer.constants
    shown_s = float(hide(whole_s, slowest_s, job.stack.dp_overlap, c))
    ends = np.zeros(played.graph.ranks)
    np.maximum.at(ends, played.graph.rank, played.end_s[:, 0])
    gathers = [op.collective == "all_gather" for op, _ in messages]
    named = [(op.name, s) for op, s in messages]
    return Tail(
        before=tuple(it for it, late in zip(named, gathers, strict=True) if it[1] and not late),
        after=tuple(it for it, late in zip(named, gathers, strict=True) if it[1] and late),
        update=(
            *((op.name, float(pricer.seconds(op) * op.count)) for op in local),
            ("the host's work per step", float(c.host_step_s)),
        ),
        shown=shown_s / whole_s if whole_s else 1.0,
        ends_s=ends + more_s,
        more_s=more_s,
    )
