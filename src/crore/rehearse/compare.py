"""What the planner says of a rank's step against what the trainer's code did, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from crore.rehearse.around import ABOVE
from crore.rehearse.messages import Message
from crore.rehearse.predicted import predicted_flops, predicted_messages
from crore.rehearse.predicted_memory import KINDS, predicted_memory
from crore.rehearse.trace import Trace, Work

Unit: TypeAlias = Literal["messages", "bytes", "flops"]
CATEGORY: Final = 0.03
"""Largest error of a category of memory, of the larger of the two or of a hundredth of the peak."""
PEAK: Final = 0.05
FLOPS: Final = 0.01
EXACT: Final = 0.0
SMALL: Final = 0.01
"""Share of the peak below which a category's error is measured against the peak instead."""
Sizes: TypeAlias = Counter[tuple[str, str, int]]
"""(axis, collective, bytes) -> how many."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One number, predicted and counted."""

    what: str
    unit: Unit
    predicted: float
    counted: float
    tolerance: float
    """Largest share of the counted number that they may differ by."""
    same: bool
    """Whether they differ by no more; of messages, whether each has the same size."""

    @property
    def error(self) -> float:
        """Predicted over counted, less one; infinite where nothing was counted."""
        if self.counted:
            return self.predicted / self.counted - 1
        return 0.0 if not self.predicted else float("inf")


def compare(work: Work, trace: Trace) -> list[Row]:
    """Return the rows of one rank: messages of each axis, memory by kind and peak, FLOPs."""
    rows = [*_messages(work, trace), *_memory(work, trace)]
    flops = predicted_flops(work, trace.rank)
    return [*rows, _row("FLOPs", "flops", flops, float(trace.flops), FLOPS)]


def counted_messages(messages: Iterable[Message]) -> Sizes:
    """Return how many messages of each size there are; sends and receives both as `p2p`."""
    return Counter((m.axis, m.sort, m.bytes) for m in messages)


def _messages(work: Work, trace: Trace) -> Iterator[Row]:
    counted = counted_messages(m for m in trace.messages if m.axis not in ABOVE)
    told: Sizes = Counter()
    for axis, collective, size, count in predicted_messages(work, trace.rank):
        told[axis, collective, size] += count
    for axis in sorted({key[0] for key in (*counted, *told)}):
        ours, theirs = ({k: n for k, n in it.items() if k[0] == axis} for it in (told, counted))
        same = ours == theirs
        yield Row(
            what=axis, unit="messages", predicted=float(sum(ours.values())),
            counted=float(sum(theirs.values())), tolerance=EXACT, same=same,
        )  # fmt: skip
        yield Row(
            what=axis, unit="bytes", predicted=float(sum(k[2] * n for k, n in ours.items())),
            counted=float(sum(k[2] * n for k, n in theirs.items())), tolerance=EXACT, same=same,
        )  # fmt: skip


def _memory(work: Work, trace: Trace) -> Iterator[Row]:
    told = predicted_memory(work, trace.rank)
    counted = {**trace.peak_kinds}
    # Tokens are the data's, and no layout makes them more.
    peak = float(trace.peak_bytes - counted.pop("tokens", 0))
    for kind in KINDS:
        row = _row(kind, "bytes", told[kind], float(counted.get(kind, 0)), CATEGORY, SMALL * peak)
        yield row
    yield _row("peak", "bytes", sum(told[kind] for kind in KINDS), peak, PEAK)


def _row(
    what: str, unit: Unit, predicted: float, counted: float, tolerance: float, least: float = 0.0
) -> Row:
    room = tolerance * max(counted, least)
    return Row(
        what=what, unit=unit, predicted=predicted, counted=counted, tolerance=tolerance,
        same=abs(predicted - counted) <= room,
    )  # fmt: skip
