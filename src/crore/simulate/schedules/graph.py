"""An order as arrays: which slot waits for which, level by level, so that events need no queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crore.simulate.schedules.order import order_of
from crore.simulate.schedules.passes import KINDS, Kind, Pass, Place, ways

Ints: TypeAlias = NDArray[np.intp]
NONE = -1
"""Stands for no slot."""
HELD: Mapping[Kind, int] = {"F": 1, "B": -1, "I": 0, "W": -1}
"""Activations more that a rank holds after a pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """All slots of a step; `[S]` one entry per slot, `[X]` one per pass."""

    ranks: int
    rank: Ints
    """[S]."""
    before: Ints
    """[S] the slot that its rank runs before, or NONE."""
    waits: Ints
    """[S, 2] slots whose outputs it needs, of other ranks or its own, or NONE."""
    sender: Ints
    """[S, 2] place (rank · chunks + chunk) that sends each output, or NONE on the same rank."""
    levels: tuple[Ints, ...]
    """Slots by depth: all that one waits for are in earlier levels."""
    slot: Ints
    """[X] the slot of each pass, in the order of a rank's slots."""
    kind: Ints
    """[X] index into KINDS."""
    chunk: Ints
    """[X]."""
    micro_batch: Ints
    """[X]."""


@lru_cache(maxsize=4)
def graph_of(schedule: str, ranks: int, chunks: int, micro_batches: int) -> Graph:
    """Return the graph of a schedule; errors as `order_of`."""
    order = order_of(schedule, ranks, chunks, micro_batches)
    table = [(rank, slot) for rank, slots in enumerate(order) for slot in slots]
    rank = np.array([r for r, _ in table], dtype=np.intp)
    before = np.arange(-1, len(table) - 1)
    before[np.flatnonzero(np.diff(rank, prepend=-1))] = NONE
    waits, sender = _waits(table, schedule, ranks, chunks)
    passes = [(s, it) for s, (_, slot) in enumerate(table) for it in slot]
    return Graph(
        ranks=ranks, rank=rank, before=before, waits=waits, sender=sender,
        levels=_levels(before, waits),
        slot=np.array([s for s, _ in passes], dtype=np.intp),
        kind=np.array([KINDS.index(it.kind) for _, it in passes], dtype=np.intp),
        chunk=np.array([it.chunk for _, it in passes], dtype=np.intp),
        micro_batch=np.array([it.micro_batch for _, it in passes], dtype=np.intp),
    )  # fmt: skip


def _waits(
    table: list[tuple[int, tuple[Pass, ...]]], schedule: str, ranks: int, chunks: int
) -> tuple[Ints, Ints]:
    forward, backward = _neighbours(schedule, ranks, chunks)
    made: dict[tuple[bool, Place, int], int] = {}
    for s, (rank, slot) in enumerate(table):
        for it in slot:
            if it.kind != "W":
                made[it.kind == "F", (rank, it.chunk), it.micro_batch] = s
    waits = np.full((len(table), 2), NONE, dtype=np.intp)
    sender = np.full((len(table), 2), NONE, dtype=np.intp)
    for s, (rank, slot) in enumerate(table):
        for k, it in enumerate(slot):
            place = (rank, it.chunk)
            source = (forward if it.kind == "F" else backward).get(place)
            if it.kind == "W" or (it.kind == "F" and source is None):
                continue  # its own rank made it before, or it reads tokens
            # The last stage goes back from its own forward pass.
            waits[s, k] = made[it.kind == "F" or source is None, source or place, it.micro_batch]
            if source is not None and source[0] != rank:
                sender[s, k] = source[0] * chunks + source[1]
    return waits, sender


def _neighbours(
    schedule: str, ranks: int, chunks: int
) -> tuple[dict[Place, Place], dict[Place, Place]]:
    """Return the place that each place gets its activations, and its gradients, from."""
    forward: dict[Place, Place] = {}
    backward: dict[Place, Place] = {}
    for way in ways(schedule, ranks, chunks):
        forward |= dict(zip(way[1:], way[:-1], strict=True))
        backward |= dict(pairwise(way))
    return forward, backward


def _levels(before: Ints, waits: Ints) -> tuple[Ints, ...]:
    """Return the slots by depth, by going through those whose needs are met until none is left."""
    needs = np.column_stack([before, waits])
    left = (needs != NONE).sum(axis=1)
    sources, targets = needs[needs != NONE], np.nonzero(needs != NONE)[0]
    targets = targets[np.argsort(sources, kind="stable")]
    starts = np.searchsorted(np.sort(sources), np.arange(len(before) + 1))
    ready, levels = np.flatnonzero(left == 0), []
    while ready.size:
        levels.append(ready)
        after = np.concatenate([targets[starts[s] : starts[s + 1]] for s in ready])
        np.subtract.at(left, after, 1)
        ready = np.unique(after[left[after] == 0])
    assert sum(map(len, levels)) == len(before), "the order waits for itself"
    return tuple(levels)


def peak_in_flight(graph: Graph, share: float) -> tuple[float, ...]:
    """Return the most activations each rank holds, a chunk's being `share` of a whole stage's.

    One is held from its forward pass until its weight gradient, which a whole backward includes.
    """
    change = np.array([HELD[kind] for kind in KINDS])[graph.kind]
    held = np.cumsum(change)  # every rank ends with none
    firsts = np.searchsorted(graph.rank[graph.slot], np.arange(graph.ranks))
    return tuple((np.maximum.reduceat(held, firsts) * share).tolist())
