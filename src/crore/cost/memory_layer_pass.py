"""Moments of the backward passes of a rank's layers, and of their gradients' leaving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.memory_flight import chunks
from crore.cost.memory_shards import Block, gathered_bytes, scattered_bytes, sum_blocks
from crore.cost.memory_sizes import FLOAT
from crore.cost.memory_state import Moment, State, at_top, left_whole, whole_weights
from crore.cost.memory_tape import Top


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
    for kind, here in (
        (True, ((0.0, sparse), (last_but_one, sparse), (second, sparse), (first, sparse))),
        (False, ((0.0, 1 - sparse), (last_but_one, 1 - sparse), (second, 1 - sparse),
                 (first, dense))),
    ):  # fmt: skip
        if any(present(there) for _, there in here):
            tops = _tops(state, sparse=kind)
            for after, there in _distinct(here):
                if present(there):
                    yield from (m.only(there) for m in _layer(state, tops, after, sparse=kind))


def _distinct(here: tuple[tuple[Num, Num], ...]) -> Iterator[tuple[Num, Num]]:
    """Yield the layers that are not each other's double: stages of few layers have such."""
    told: list[tuple[Num, Num]] = []
    for after, there in here:
        if not any(np.array_equal(after, a) and np.array_equal(there, t) for a, t in told):
            told.append((after, there))
            yield after, there


def _tops(state: State, *, sparse: bool) -> tuple[Top, ...]:
    """Return the highest moments of a layer's pass, whichever layer: an expert layer's has two."""
    tapes = state.rank.sparse_tapes if sparse else state.rank.dense_tapes
    return tuple(tape.top(state.stays) for tape in tapes)


def _layer(state: State, tops: tuple[Top, ...], after: Num, *, sparse: bool) -> Iterator[Moment]:
    """Yield the pass of the layer that `after` others follow; an expert layer's in two parts."""
    rank, held = state.rank, state.rank.held
    block = held.sparse if sparse else held.dense
    reduces = rank.reduces(later=state.later)
    around = _around(state, after, sparse=sparse)
    if sparse:
        own = reduces * held.wraps_experts
        more = held.wraps_experts * gathered_bytes(rank.job, held.experts) * rank.fully
        both = replace(around, gathered=around.gathered + more)
        yield from _pass(state, tops[0], held.experts, both, own)
        buffer = np.where(own, scattered_bytes(held.experts), around.buffer)
        around = replace(around, working=around.working + buffer - around.buffer, buffer=buffer)
    yield from _pass(state, tops[-1], block, around, reduces)


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


def _pass(state: State, top: Top, block: Block, around: Around, reduces: Num) -> Iterator[Moment]:
    """Yield the highest moment of a block's backward pass, and that of its gradients' leaving.

    The whole weights are freed first; then there is a buffer beside whole gradients.
    """
    rank = state.rank
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
