"""What a rank does above its world, against the planner: with other worlds, with other islands.

Worlds of an island add up gradients every step, islands exchange weights every few: in both, rank k
meets the ranks k, so all must hold the same parts of the same weights and send in the same order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np

from crore.cost.islands import BLOCK_VALUES, outer_bytes
from crore.cost.step_crore_data import units
from crore.rehearse.agree import Finding
from crore.rehearse.around import ISLANDS, WORLDS
from crore.rehearse.compare import EXACT, Row
from crore.rehearse.messages import Message
from crore.rehearse.predicted import job_of
from crore.rehearse.trace import Trace, Work
from crore.train.islands.exchange import FACT_BYTES
from crore.train.islands.settings import Outer

FLOAT: Final = 4
"""Bytes of an element that worlds add up every step."""
DOUBLE: Final = 8
"""Bytes of a number that is summed."""
OF_A_WORLD: Final = 3
"""Numbers that each world says to all of its island in a step: its own, a checksum, a time."""
OF_A_STEP: Final = 1
"""Numbers that are added up beside them: the loss."""
T = TypeVar("T")
H = TypeVar("H", bound=Hashable)
CALLS: Final = 3
"""All-to-alls of a turn: values to their owners, facts, means to all."""


def compare_above(work: Work, trace: Trace) -> list[Row]:
    """Return the rows of one rank with the same rank of other worlds, and of other islands.

    Bytes over worlds are full buffers, as for axes of a world; those over islands what the rank
    sends in a round, as `cost.islands.outer_bytes` counts them.
    """
    rows: list[Row] = []
    if work.around.worlds > 1:
        rows += _over_worlds(work, trace)
    if work.around.outer is not None and trace.round is not None:
        rows += _over_islands(work, trace, work.around.outer)
    return rows


def elements_of(work: Work, rank: int) -> tuple[float, float]:
    """Return the elements that the planner's rank adds up over replicas, and those it may lack.

    It holds whole rows of each parameter, as many as the fullest; where rows do not divide, the
    last ranks of a shard group hold fewer, or none.
    """
    total = uneven = 0.0
    for unit in units(job_of(work, rank)):
        shard = float(np.asarray(unit.shard))
        for p in unit.parameters:
            rows = float(np.asarray(p.rows))
            held = math.ceil(rows / shard) * float(np.asarray(p.columns * p.count * unit.count))
            total += held
            uneven += held if rows % shard else 0.0
    return total, uneven


def _over_worlds(work: Work, trace: Trace) -> Iterator[Row]:
    sizes = [m.bytes for m in trace.messages if m.axis == WORLDS]
    job, (total, uneven) = job_of(work, trace.rank), elements_of(work, trace.rank)
    loads = float(np.asarray(job.stage_moe * job.shape.experts))
    yield _row(WORLDS, FLOAT * (total + loads), sum(sizes[:-1]), less=FLOAT * uneven)
    numbers = OF_A_STEP + OF_A_WORLD * work.around.worlds
    yield _row("worlds sums", DOUBLE * numbers, sum(sizes[-1:]))


def _over_islands(work: Work, trace: Trace, outer: Outer) -> Iterator[Row]:
    """Yield the rows of a round; what is sent fills whole blocks, so it may be a little more."""
    assert trace.round is not None
    islands = work.around.islands
    # One part of each buffer is the rank's own.
    sizes = [m.bytes // islands * (islands - 1) for m in trace.round.messages if m.axis == ISLANDS]
    facts = sum(sizes[1::CALLS])
    total, uneven = elements_of(work, trace.rank)
    told, lacking = (float(outer_bytes(it, islands, float(outer.bits))) for it in (total, uneven))
    filled = (BLOCK_VALUES - 1) * len(trace.shards) + outer.fragments * islands * BLOCK_VALUES
    more = float(outer_bytes(filled, islands, float(outer.bits)))
    yield _row("islands sent", told, sum(sizes) - facts, less=lacking, more=more)
    known = outer.fragments * (islands - 1) * (islands**2 + 1) * FACT_BYTES
    yield _row("islands facts", known, facts)


def _row(what: str, predicted: float, counted: int, *, less: float = 0.0, more: float = 0.0) -> Row:
    """Return a row that is right where up to `less` is lacking, or up to `more` is filled up."""
    predicted = round(predicted)
    return Row(
        what=what, unit="bytes", predicted=float(predicted), counted=float(counted),
        tolerance=max(less, more) / max(counted, 1) if less or more else EXACT,
        same=-less <= counted - predicted <= more,
    )  # fmt: skip


def outer_sent_bytes(work: Work, trace: Trace) -> int:
    """Return what the leading world's rank sends to other islands in a round, facts included."""
    islands = work.around.islands
    sent = trace.round.messages if trace.round is not None else ()
    return sum(m.bytes // islands * (islands - 1) for m in sent if m.axis == ISLANDS)


def state_sent_bytes(trace: Trace) -> int:
    """Return what a round sends to the worlds of the island: the outer state, every turn."""
    if trace.round is None:
        return 0
    return sum(m.bytes for m in trace.round.messages if m.axis == WORLDS)


def worlds_disagree(traces: Mapping[int, Trace]) -> list[Finding]:
    """Return what is wrong between worlds, by one rank of each: parts of the weights, messages.

    What most of them do is taken for right.
    """
    found: list[Finding] = []
    held = {world: tuple(sorted(trace.shards.items())) for world, trace in traces.items()}
    for world, ours, theirs in _odd(held):
        mine, right = dict(ours), dict(theirs)
        name = next(n for n in (*right, *mine) if mine.get(n) != right.get(n))
        found.append(
            Finding(
                kind="mismatch", ranks=(traces[world].rank,),
                text=f"world {world} has another layout: its rank {traces[world].rank} holds "
                f"{_words(mine.get(name))} of {name}, the others {_words(right.get(name))}; "
                "their quorum would hang or add up different weights",
            )
        )  # fmt: skip
    return found or _order(traces, WORLDS, "world")


def islands_disagree(traces: Mapping[int, Trace]) -> list[Finding]:
    """Return what is wrong between islands, by one rank of each: fragments, then messages."""
    turns = {island: it.round.turns if it.round else () for island, it in traces.items()}
    found: list[Finding] = []
    for island, ours, theirs in _odd(turns):
        turn, mine, right = _first(ours, theirs)
        found.append(
            Finding(
                kind="mismatch", ranks=(traces[island].rank,),
                text=f"island {island} sends another fragment: in turn {turn + 1} its rank "
                f"{traces[island].rank} sends {_names(mine, right)}, the others "
                f"{_names(right, mine)}; they would add up different weights",
            )
        )  # fmt: skip
    return found or _order(traces, ISLANDS, "island")


def _order(traces: Mapping[int, Trace], axis: str, word: str) -> list[Finding]:
    """Return who does not send on an axis what most do, in their order."""
    lists = {number: tuple(_sent(trace, axis)) for number, trace in traces.items()}
    found: list[Finding] = []
    for number, ours, theirs in _odd(lists):
        at, mine, right = _first(ours, theirs)
        found.append(
            Finding(
                kind="mismatch", ranks=(traces[number].rank,),
                text=f"{word} {number} sends {len(ours)} messages on {axis}, the others "
                f"{len(theirs)}: its message {at + 1} is {_said(mine)}, theirs {_said(right)}",
            )
        )  # fmt: skip
    return found


def _sent(trace: Trace, axis: str) -> Iterator[tuple[str, int]]:
    later: Sequence[Message] = trace.round.messages if trace.round else ()
    return ((m.collective, m.bytes) for m in (*trace.messages, *later) if m.axis == axis)


def _odd(given: Mapping[int, H]) -> Iterator[tuple[int, H, H]]:
    """Yield (number, its own, what most have) of each that has something else."""
    right = Counter(given.values()).most_common(1)[0][0]
    return ((number, own, right) for number, own in given.items() if own != right)


def _first(ours: Sequence[T], theirs: Sequence[T]) -> tuple[int, T | None, T | None]:
    """Return where two lists part, and what each has there."""
    at = next(k for k in range(max(len(ours), len(theirs))) if ours[k : k + 1] != theirs[k : k + 1])
    return at, next(iter(ours[at:]), None), next(iter(theirs[at:]), None)


def _words(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else f"[{', '.join(map(str, shape))}]"


def _said(message: tuple[str, int] | None) -> str:
    return "none" if message is None else f"{message[0]} of {message[1]:,} B"


def _names(fragment: Sequence[str] | None, other: Sequence[str] | None) -> str:
    """Return the first parameter that another fragment has not at the same place."""
    if not fragment:
        return "nothing"
    return next((n for n, o in zip(fragment, other or (), strict=False) if n != o), fragment[-1])
