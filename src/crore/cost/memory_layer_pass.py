"""Moments of the backward passes of a rank's layers, and of their gradients' leaving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.memory_experts import (
    any_attention_backward,
    experts_backward,
    sparse_backward,
    tokens_backward,
)
from crore.cost.memory_flight import chunks
from crore.cost.memory_layers import dense_backward
from crore.cost.memory_shards import Block, gathered_bytes, scattered_bytes, sum_blocks
from crore.cost.memory_sizes import FLOAT
from crore.cost.memory_state import Moment, State, at_top, left_whole, whole_weights
from crore.cost.memory_tape import Tape


@dataclass(frozen=True, kw_only=True, slots=True)
class Around:
    """What is alive around a layer's backward pass; floats or `[N]`."""

    activations: Num
    gradients: Num
    gathered: Num
    working: Num
    """The stream's gradient, buffers, gradients that wait."""
    buffer: Num
    """Of `working`, the buffer that the block before left by."""


def layers(state: State) -> Iterator[Moment]:
    """Yield the backward passes of the last two layers of a stage and of its first two."""
    place = state.rank.place
    first = np.ceil(place.layers / chunks(state.rank.job)) - 1
    second, last_but_one = np.maximum(first - 1, 0.0), np.minimum(1.0, first)
    sparse = np.greater(place.moe, 0) * 1.0
    dense = np.greater(place.layers, place.moe) * 1.0
    for after, kind, here in (
        (0.0, True, sparse), (last_but_one, True, sparse), (second, True, sparse),
        (first, True, sparse), (0.0, False, 1 - sparse), (last_but_one, False, 1 - sparse),
        (second, False, 1 - sparse), (first, False, dense),
    ):  # fmt: skip
        if present(here):
            yield from (moment.only(here) for moment in _layer(state, after, sparse=kind))


def _layer(state: State, after: Num, *, sparse: bool) -> Iterator[Moment]:
    """Yield the pass of the layer that `after` others follow; an expert layer's in two parts."""
    rank, held = state.rank, state.rank.held
    block = held.sparse if sparse else held.dense
    reduces = rank.reduces(later=state.later)
    around = _around(state, after, sparse=sparse)
    tape = Tape()
    if sparse:
        again = _rows_again(state)
        tape.make(again).free(again)
        sparse_backward(rank.job, rank.z, tape)
        experts_backward(rank.job, rank.z, tape)
        own = reduces * held.wraps_experts
        more = held.wraps_experts * gathered_bytes(rank.job, held.experts) * rank.fully
        both = replace(around, gathered=around.gathered + more)
        yield from _pass(state, tape, held.experts, both, own)
        buffer = np.where(own, scattered_bytes(held.experts), around.buffer)
        around = replace(around, working=around.working + buffer - around.buffer, buffer=buffer)
        tape = Tape().make(tape.top().end)
        tokens_backward(rank.job, rank.z, tape)
    else:
        dense_backward(rank.job, rank.z, tape)
    any_attention_backward(rank.job, rank.z, tape)
    yield from _pass(state, tape, block, around, reduces)


def _rows_again(state: State) -> Num:
    """Return what a recomputed expert layer has beside what it keeps: rows on their way, a gather.

    FSDP gathers the next experts ahead while these run once more.
    """
    rank, z = state.rank, state.rank.z
    redo = np.greater(rank.job.layout.recompute, 0)
    rows = np.maximum(3 * z.arrived - 4 * z.shared - z.whole, 0.0)
    own = rank.fully * rank.held.wraps_experts
    return redo * (rows + own * gathered_bytes(rank.job, rank.held.experts))


def _around(state: State, after: Num, *, sparse: bool) -> Around:
    rank = state.rank
    job, z, held, place = rank.job, rank.z, rank.held, rank.place
    block = held.sparse if sparse else held.dense
    moe = np.minimum(after, place.moe)
    done = sum_blocks(
        held.head, held.dense.times(after - moe), held.sparse.times(moe), held.experts.times(moe)
    )
    gone = (after - moe) * rank.layer(sparse=False) + rank.read(after)
    if present(place.moe):
        gone = gone + moe * rank.layer(sparse=True)
    counted, made = state.base(done)
    reduces = rank.reduces(later=state.later)
    ahead = rank.fully * np.less(after, place.layers - 1) * gathered_bytes(job, block)
    buffer = _buffer(state, after, block)
    # A pipeline's gradient came into a buffer that is counted already, and it holds the output.
    came = np.equal(after, 0) * np.greater(place.sends, 0) * (1 - place.last)
    output = rank.piped * place.last * z.element * z.logits / FLOAT
    tied = held.together * held.wraps * reduces * z.element * held.table.whole
    working = (
        made + buffer + ahead + np.where(came, 0.0, z.cut) + rank.again(sparse=sparse) + output
    )
    return Around(
        activations=rank.kept * state.held - gone, gradients=counted,
        gathered=whole_weights(rank, gathered_bytes(job, block), left_whole(rank, done, moe)),
        working=working + tied + state.lingers, buffer=buffer,
    )  # fmt: skip


def _buffer(state: State, after: Num, block: Block) -> Num:
    """Return the buffer of gradients that the block before left by: the head's, or a layer's."""
    rank, held = state.rank, state.rank.held
    head = (1 - held.together) * rank.place.last * scattered_bytes(held.head)
    own = np.where(np.equal(after, 0), head, scattered_bytes(block))
    return rank.reduces(later=state.later) * own


def _pass(state: State, tape: Tape, block: Block, around: Around, reduces: Num) -> Iterator[Moment]:
    """Yield the highest moment of a block's backward pass, and that of its gradients' leaving.

    The whole weights are freed first; then there is a buffer beside whole gradients.
    """
    rank, top = state.rank, tape.top(state.stays)
    yield at_top(top, state, Moment(
        activations=around.activations, working=around.working, gradients=around.gradients,
        gathered=around.gathered,
    ))  # fmt: skip
    whole = rank.z.element * block.whole * state.stays
    leaving = around.working - around.buffer + top.end + whole + scattered_bytes(block)
    yield Moment(
        activations=around.activations, working=reduces * leaving, gradients=around.gradients,
        gathered=around.gathered - reduces * gathered_bytes(rank.job, block),
    )  # fmt: skip
