"""Moments at the ends of a pass: head and loss, the last layer forward, the embedding backward."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.memory_layers import narrowing, norm_backward, norm_kept, spread_gradient
from crore.cost.memory_rank import Rank
from crore.cost.memory_shards import (
    either,
    gathered_bytes,
    scattered_bytes,
    sum_blocks,
)
from crore.cost.memory_sizes import FLOAT
from crore.cost.memory_state import (
    NOTHING,
    Moment,
    State,
    at_top,
    last_block,
    left_whole,
    whole_weights,
)
from crore.cost.memory_tape import Tape


def head_kept(rank: Rank) -> Num:
    """Return what the final norm and the head's product keep of a micro-batch."""
    z = rank.z
    return norm_kept(rank.job, z, z.cut, z.wide, z.row) + z.whole


def narrow_logits(rank: Rank) -> Num:
    """Return the bytes of the logits as the head's product makes them."""
    return rank.z.element * rank.z.logits / FLOAT


def _fresh(rank: Rank) -> Num:
    """Return 1 where a forward pass gathers weights: the last buffer is held for a while."""
    return rank.held.wraps * np.maximum(1 - rank.piped, rank.fully)


def head(state: State) -> Iterator[Moment]:
    """Yield the head's product, the loss, and the head's backward pass.

    Plain cross-entropy keeps a log-softmax and makes two gradients of its size; the vocabulary-
    parallel one keeps a softmax and makes one. A pipeline holds what the head made all along, and
    GPipe the loss of every micro-batch.
    """
    rank, z = state.rank, state.rank.z
    job, held, low = rank.job, rank.held, narrow_logits(rank)
    gpipe = np.equal(job.layout.schedule, 0) * rank.piped
    others = gpipe * (state.held - 1) * (head_kept(rank) + low + z.logits)
    counted, made = state.base(NOTHING)
    around = Moment(
        activations=rank.kept * state.held + head_kept(rank) + others, gradients=counted,
        working=made + state.lingers,
        gathered=whole_weights(rank, gathered_bytes(job, held.head), 0.0),
    )  # fmt: skip
    buffer = gathered_bytes(job, either(held.together, last_block(rank), held.head))
    yield replace(around, logits=low, working=around.working + _fresh(rank) * buffer)
    ahead = low + (1 + z.mixed) * z.logits
    back = np.where(np.greater(job.layout.tp, 1), 2.0, 3.0) * z.logits + rank.piped * low
    yield replace(around, logits=np.maximum(ahead, back))
    yield from _head_backward(state, around)


def _head_backward(state: State, around: Moment) -> Iterator[Moment]:
    rank, z, held = state.rank, state.rank.z, state.rank.held
    job, low = rank.job, narrow_logits(rank)
    gradient = z.element * (held.head.whole + held.together * held.table.whole)
    ahead = rank.fully * gathered_bytes(job, last_block(rank))
    around = replace(around, working=around.working + ahead)
    tape = Tape().gradient(gradient).make(low * (1 + rank.piped), z.whole).free(low, z.whole)
    spread_gradient(job, z, tape)
    norm_backward(job, z, tape, z.cut, z.wide, z.row, joins=0.0)
    top = tape.top(state.stays)
    yield at_top(top, state, around)
    reduces = rank.reduces(later=state.later) * (1 - held.together)
    leaves = scattered_bytes(held.head) + FLOAT * held.head.shard + gradient + top.end
    freed = held.wraps * gathered_bytes(job, held.head)
    leaving = replace(around, working=around.working + leaves, gathered=around.gathered - freed)
    yield leaving.only(reduces)


def forward(state: State) -> Moment:
    """Return the end of the last layer's forward pass."""
    rank, z = state.rank, state.rank.z
    job, block = rank.job, last_block(rank)
    counted, made = state.base(NOTHING)
    down = np.maximum(z.whole * (1 + np.less(z.cut, z.whole)) + z.cut, narrowing(job, z))
    rows = np.maximum(down, 4 * z.arrived - z.routed - 4 * z.shared)
    down = np.where(np.greater(rank.place.moe, 0), rows, down)
    anew = rank.again(sparse=present(rank.place.moe))
    buffer = _fresh(rank) * gathered_bytes(job, block)
    return Moment(
        activations=rank.kept * state.held, working=made + down + anew + buffer,
        gradients=counted, gathered=whole_weights(rank, gathered_bytes(job, block), 0.0),
    )  # fmt: skip


def table(state: State) -> Moment:
    """Return the end of a backward pass: the embedding's gradient, all layers' before it.

    Where the table is the head's too, there are the head's gradient, the embedding's and their sum.
    """
    rank, z, held, place = state.rank, state.rank.z, state.rank.held, state.rank.place
    job = rank.job
    done = sum_blocks(
        held.head, held.dense.times(place.layers - place.moe), held.sparse.times(place.moe),
        held.experts.times(place.moe),
    )  # fmt: skip
    counted, made = state.base(done)
    reduces = rank.reduces(later=state.later)
    elements = held.table.whole
    alone = z.element * elements * (1 + held.together + held.together * held.wraps)
    wide = 0.0 if state.later else held.wraps * z.mixed * (1 - reduces) * FLOAT * elements
    waiting = reduces * scattered_bytes(held.dense)
    own = gathered_bytes(job, held.table.times(1 - held.together))
    return Moment(
        activations=rank.kept * np.maximum(state.held - 1, 0.0),
        working=made + alone + wide + waiting + z.cut, gradients=counted,
        gathered=whole_weights(rank, own, left_whole(rank, done, place.moe)),
    )  # fmt: skip
