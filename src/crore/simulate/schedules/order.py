"""The order in which every rank of a schedule runs its passes, as the papers draw them.

Sources are those of `cost.schedules`; where torch runs a schedule the order is torch's. A rank
never changes its order: what differs between two runs is when a pass begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, TypeAlias

from crore.cost.schedules import SCHEDULE_NAMES
from crore.errors import InputError, UnknownName
from crore.simulate.schedules.folded import dualpipe, dualpipe_v, zb_v
from crore.simulate.schedules.passes import Kind, Pass, Slot

Order: TypeAlias = tuple[tuple[Slot, ...], ...]
"""Slots by rank."""


def order_of(schedule: str, ranks: int, chunks: int, micro_batches: int) -> Order:
    """Return the slots of every rank of a pipeline, in the order they are run.

    `chunks` is model chunks per rank: 2 for V shapes and DualPipe, any for interleaving, else 1.
    UnknownName for a schedule without a row in the table; InputError for counts it cannot run.
    """
    if schedule not in SCHEDULE_NAMES:
        raise UnknownName("schedule", schedule, SCHEDULE_NAMES)
    _check(schedule, ranks, chunks, micro_batches)
    if ranks == 1:
        return (tuple(_alone(chunks, micro_batches)),)
    make = _ORDERS[schedule]
    return tuple(tuple(make(ranks, chunks, micro_batches, rank)) for rank in range(ranks))


def _check(schedule: str, ranks: int, chunks: int, micro_batches: int) -> None:
    if min(ranks, chunks, micro_batches) < 1:
        raise InputError(
            f"a pipeline has at least one rank, chunk and micro-batch, not {ranks}, {chunks} and "
            f"{micro_batches}"
        )
    fixed = {"interleaved": chunks, "zb-v": 2, "dualpipe": 2, "dualpipe-v": 2}.get(schedule, 1)
    if chunks != fixed and ranks > 1:
        raise InputError(f"{schedule} has {fixed} chunks per rank, not {chunks}")
    if schedule == "interleaved":
        rounds(ranks, micro_batches)
    least = {"dualpipe": 2 * ranks, "dualpipe-v": 2 * ranks}.get(schedule, 1)
    if micro_batches < least and ranks > 1:
        raise InputError(
            f"{schedule} on {ranks} ranks needs at least {least} micro-batches, not "
            f"{micro_batches}: take 1f1b or a larger batch"
        )
    if schedule == "dualpipe" and ranks > 1 and (ranks % 2 or micro_batches % 2):
        raise InputError(
            f"dualpipe feeds both ends alike: ranks ({ranks}) and micro-batches "
            f"({micro_batches}) must be even"
        )


def rounds(ranks: int, micro_batches: int) -> int:
    """Return the rounds of interleaving: a round takes as many micro-batches as there are ranks.

    Or a few more, where they make whole rounds (torch's flexible form). InputError where none do.
    """
    count = max(1, micro_batches // ranks)
    if micro_batches % count:
        raise InputError(
            f"interleaving on {ranks} ranks cuts {micro_batches} micro-batches into {count} rounds "
            f"with {micro_batches % count} left over: take a multiple of {ranks}"
        )
    return count


def _single(kind: Kind, chunk: int, micro_batch: int) -> Slot:
    return (Pass(kind, chunk, micro_batch),)


def _alone(chunks: int, m: int) -> Iterator[Slot]:
    """Without a pipeline: a micro-batch forward and back, one after the other."""
    for i in range(m):
        yield from (_single("F", c, i) for c in range(chunks))
        yield from (_single("B", c, i) for c in reversed(range(chunks)))


def _gpipe(p: int, v: int, m: int, rank: int) -> Iterator[Slot]:
    """All forwards, then all backwards (arXiv 1811.06965)."""
    del p, v, rank
    return chain((_single("F", 0, i) for i in range(m)), (_single("B", 0, i) for i in range(m)))


def _one_f_one_b(p: int, v: int, m: int, rank: int) -> Iterator[Slot]:
    """Warm up with one forward per rank behind, then a forward and a backward in turn."""
    del v
    warm = min(p - rank - 1, m)
    forwards = (_single("F", 0, i) for i in range(m))
    backwards = (_single("B", 0, i) for i in range(m))
    return _in_turn(forwards, backwards, warm)


def _interleaved(p: int, v: int, m: int, rank: int) -> Iterator[Slot]:
    """Chunks in turn, one round of micro-batches each (arXiv 2104.04473 Figure 4)."""
    count = rounds(p, m)
    each = m // count
    turns = [(g * each, c) for g in range(count) for c in range(v)]
    forwards = (_single("F", c, g + i) for g, c in turns for i in range(each))
    backwards = (_single("B", v - 1 - c, g + i) for g, c in turns for i in range(each))
    warm = min(2 * (p - rank - 1) + (v - 1) * each, m * v)
    return _in_turn(forwards, backwards, warm)


def _in_turn(forwards: Iterator[Slot], backwards: Iterator[Slot], warm: int) -> Iterator[Slot]:
    for _, slot in zip(range(warm), forwards, strict=False):
        yield slot
    for slot in forwards:
        yield slot
        yield next(backwards)
    yield from backwards


def _zb_h1(p: int, v: int, m: int, rank: int) -> Iterator[Slot]:
    """1F1B with weight gradients put off by one per rank before it (arXiv 2401.10241 Figure 2)."""
    del v
    return _split(m, warm=p - rank - 1, late=rank)


def _zb_h2(p: int, v: int, m: int, rank: int) -> Iterator[Slot]:
    """Twice the warm-up, weight gradients put off twice as far (arXiv 2401.10241 Figure 3)."""
    del v
    return _split(m, warm=2 * (p - rank - 1), late=2 * rank)


def _split(m: int, *, warm: int, late: int) -> Iterator[Slot]:
    """`warm` forwards, then forward, input gradient and the weight gradient `late` ones before."""
    for i in range(min(warm, m)):
        yield _single("F", 0, i)
    for i in range(m):
        if warm + i < m:
            yield _single("F", 0, warm + i)
        yield _single("I", 0, i)
        if i >= late:
            yield _single("W", 0, i - late)
    for i in range(max(m - late, 0), m):
        yield _single("W", 0, i)


_ORDERS: Final[dict[str, Callable[[int, int, int, int], Iterator[Slot]]]] = {
    "gpipe": _gpipe,
    "1f1b": _one_f_one_b,
    "interleaved": _interleaved,
    "zb-h1": _zb_h1,
    "zb-h2": _zb_h2,
    "zb-v": zb_v,
    "dualpipe": dualpipe,
    "dualpipe-v": dualpipe_v,
}
