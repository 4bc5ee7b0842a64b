"""Moments of a backward pass in two halves, as zero-bubble schedules run it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.memory_ends import head_kept, narrow_logits
from crore.cost.memory_flight import chunks
from crore.cost.memory_rank import Rank
from crore.cost.memory_shards import gathered_bytes
from crore.cost.memory_state import NOTHING, Moment, State, last_block, whole_weights


def split(state: State) -> Iterator[Moment]:
    """Yield the two highest moments of a backward pass in halves, as the V's schedule runs it.

    The first half frees nothing: it leaves all activations and the gradients that the second half
    multiplies them with. In the steady state one pass is so held; at the end, on the rank numbered
    r, up to `2·r + 1` of the `2·p - 1` that are there. torch also leaves each stage's input the
    gradient it was sent back as.
    """
    rank, place = state.rank, state.rank.place
    most = 2 * rank.job.layout.pp
    yield _half(state, most, 1.0, place.last)
    yield _half(state, most - 1, 2 * rank.position + 1, 0.0)


def _half(state: State, alive: Num, halves: Num, last: Num) -> Moment:
    """Return the moment at which `alive` passes of a stage are there, `halves` of them half done.

    `last` is 1 where the newest one is of the stage with the head.
    """
    rank, z, place = state.rank, state.rank.z, state.rank.place
    parts = chunks(rank.job)
    passes = parts * rank.job.micro_batches
    alive = np.minimum(alive, passes)
    sent = (passes - alive) * (1 - place.first / parts)
    counted, made = state.base(NOTHING)
    own = place.layers / parts
    # What the second halves make is added to the 32-bit sums when all stages have run theirs.
    stages = np.where(np.greater(halves, 1), parts, 1.0)
    gradients = rank.held.wraps * z.mixed * z.element * last_block(rank).whole * own * stages
    every = gathered_bytes(rank.job, rank.sums)
    return Moment(
        activations=rank.kept * alive / parts + last * head_kept(rank),
        logits=last * (z.logits + 2 * narrow_logits(rank)),
        working=made + np.minimum(halves, alive) * _halves(rank) * own + sent * z.cut
        + 6 * norm_part(rank),
        gradients=counted + gradients, gathered=whole_weights(rank, every, 0.0),
    )  # fmt: skip


def _halves(rank: Rank) -> Num:
    """Return the gradients that a layer's first half of a backward pass leaves for its second."""
    job, z = rank.job, rank.z
    inner = (job.shape.matrices - 1) * z.inner
    if present(rank.place.moe):
        inner = (job.shape.matrices - 1) * (z.expert + z.shared) + 2 * z.arrived
    return inner + z.query + z.key + z.value + 2 * z.cut + 2 * z.whole


def norm_part(rank: Rank) -> Num:
    """Return the bytes of one tensor inside a norm."""
    return np.where(rank.z.mixed * rank.z.cpu, rank.z.wide, rank.z.cut)
