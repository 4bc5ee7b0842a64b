"""Weights on one rank as FSDP2 holds them: shards, whole blocks, buffers, gradients.

Parameters are cut by rows, each padded to whole rows a rank. A gather makes one buffer of a whole
padded block and copies it out into whole weights, in the format of the products; a scatter takes a
buffer of the block's gradients in 32 bits. Experts are blocks of their own, over other ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job, Place
from crore.cost.memory_sizes import FLOAT, HALF
from crore.cost.parameters import (
    Parameter,
    dense_parameters,
    expert_parameters,
    padded,
    sparse_parameters,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What FSDP gathers and scatters together; elements on a rank, floats or `[N]`."""

    whole: Num
    filled: Num
    """With the padding of its rows."""
    shard: Num

    def times(self, count: Num) -> Block:
        """Return so many blocks taken together."""
        return Block(whole=self.whole * count, filled=self.filled * count, shard=self.shard * count)


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """The blocks of one rank and how they are kept."""

    dense: Block
    """A layer with a dense feed-forward."""
    sparse: Block
    """An expert layer without its routed experts."""
    experts: Block
    table: Block
    """Embedding, positions; with the final norm where the table is tied and here."""
    head: Block
    """Head and final norm; nothing where the table serves for both."""
    layers: Num
    moe: Num
    wraps: Num
    """1 where FSDP is applied."""
    wraps_experts: Num
    """1 where it is to experts: nothing is sent for those that no other rank holds."""
    together: Num
    """1 where embedding and head are one matrix of this rank, and one block with the final norm."""

    @property
    def sums(self) -> Block:
        """All that the rank holds."""
        parts = (
            self.dense.times(self.layers - self.moe), self.sparse.times(self.moe),
            self.experts.times(self.moe), self.table, self.head,
        )  # fmt: skip
        return Block(
            whole=sum(part.whole for part in parts), filled=sum(part.filled for part in parts),
            shard=sum(part.shard for part in parts),
        )  # fmt: skip


def block_of(parameters: Iterable[Parameter], ranks: Num) -> Block:
    """Return a block cut over `ranks`."""
    found = list(parameters)
    filled = padded(found, ranks)
    return Block(whole=padded(found, 1.0), filled=filled, shard=filled / ranks)


def shard_ranks(job: Job) -> tuple[Num, Num]:
    """Return ranks that share one copy of plain weights, and of an expert."""
    layout = job.layout
    plain = layout.dp_shard * layout.cp
    return plain, np.maximum(plain * layout.tp / (layout.ep * layout.etp), 1.0)


def holding(job: Job, place: Place) -> Holding:
    """Return what a rank at a place of the pipeline holds."""
    s, layout = job.shape, job.layout
    plain, expert = shard_ranks(job)
    mixed = np.less(job.machine.element_scale, 2)
    sparse = present(s.experts)
    spread = np.greater(layout.dp_replicate * expert, 1) | mixed
    experts = np.greater(s.experts, 0) & spread
    wraps = mixed | np.greater(layout.dp_replicate * plain, 1) | experts
    nothing = Block(whole=0.0, filled=0.0, shard=0.0)
    # In a pipeline the two ends are two matrices, also where one rank holds both.
    together = s.tied * place.first * place.last * np.equal(layout.pp, 1)
    return Holding(
        dense=block_of(dense_parameters(job), plain),
        sparse=block_of(sparse_parameters(job), plain) if sparse else nothing,
        experts=block_of(expert_parameters(job, expert), expert) if sparse else nothing,
        table=block_of(_table(job, place, together), plain),
        head=block_of(_head(job, place, together), plain),
        layers=place.layers, moe=place.moe, wraps=wraps * 1.0,
        wraps_experts=experts * 1.0, together=together,
    )  # fmt: skip


def _table(job: Job, place: Place, together: Num) -> Iterator[Parameter]:
    s, tp = job.shape, job.layout.tp
    yield Parameter(rows=s.vocab / tp, columns=s.hidden, count=place.first)
    if present(s.positions):
        yield Parameter(rows=s.positions / tp, columns=s.hidden, count=place.first)
    yield Parameter(rows=s.hidden, count=together * s.norm_vectors)


def _head(job: Job, place: Place, together: Num) -> Iterator[Parameter]:
    s = job.shape
    here = place.last - together
    yield Parameter(rows=s.vocab / job.layout.tp, columns=s.hidden, count=here)
    yield Parameter(rows=s.hidden, count=here * s.norm_vectors)


def either(which: Num, one: Block, other: Block) -> Block:
    """Return one block where `which`, else the other."""
    return Block(
        whole=np.where(which, one.whole, other.whole),
        filled=np.where(which, one.filled, other.filled),
        shard=np.where(which, one.shard, other.shard),
    )


def sum_blocks(*blocks: Block) -> Block:
    """Return blocks taken together."""
    return Block(
        whole=sum(b.whole for b in blocks), filled=sum(b.filled for b in blocks),
        shard=sum(b.shard for b in blocks),
    )  # fmt: skip


def gathered_bytes(job: Job, block: Block) -> Num:
    """Return the bytes of a block that is whole, and of the buffer it came in."""
    return HALF * job.machine.element_scale * block.filled


def scattered_bytes(block: Block) -> Num:
    """Return the bytes of the buffer that a block's gradients leave in."""
    return FLOAT * block.filled
