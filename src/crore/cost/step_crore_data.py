"""Messages of crore's own trainer on weights and gradients: FSDP2's, and what a step sums.

FSDP2 gathers each block for its forward pass, and under ZeRO-3 once more for its backward one
(embeddings too, blocks or not); the root, and norm and head, stay whole until the backward pass.
ZeRO-2 and 3 scatter gradients every micro-batch, ZeRO-1 after the last; a replica then sums each
shard. A pipeline scatters once, at the end, and keeps what a backward pass gathered: a micro-batch
then gathers before a forward pass that follows a forward one, and before a backward pass that
follows a forward one, which is `m + 1` times for m micro-batches whatever the schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Bool, Num, present
from crore.cost.job import Job
from crore.cost.operations import Axis, Operation
from crore.cost.parameters import (
    Parameter,
    dense_parameters,
    expert_parameters,
    padded,
    sparse_parameters,
)
from crore.cost.step_crore import holds_first, holds_last
from crore.cost.step_eager import HALF, float32
from crore.cost.step_ends import expert_shard_ranks
from crore.cost.step_messages import message

SUMS = 3
"""Numbers that all ranks sum at the end of a step: squared norm, loss, whether to stop."""
DOUBLE = 8.0
"""Bytes of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What FSDP gathers and scatters as one buffer, `count` times on a rank."""

    name: str
    parameters: tuple[Parameter, ...]
    count: Num
    shard: Num
    """Ranks that share one copy."""
    again: Bool = True
    """Whether ZeRO-3 lets it go after the forward pass."""
    expert: bool = False


def weight_messages(job: Job) -> Iterator[Operation]:
    """Yield gathers, scatters and sums over replicas, of every micro-batch and of the step."""
    for unit in units(job):
        yield from _unit_messages(job, unit)
    yield from _partial_gradients(job)


def wrapped(job: Job) -> NDArray[np.bool_]:
    """Return where FSDP holds the weights: several ranks with the same, or another format."""
    alone = np.equal(job.layout.dp * job.layout.cp, 1)
    experts = np.greater(job.layout.dp_replicate * expert_shard_ranks(job), 1)
    return (
        ~alone
        | np.less(job.machine.element_scale, 2)
        | (experts & np.greater(job.shape.experts, 0))
    )


def units(job: Job) -> Iterator[Unit]:
    """Yield what FSDP wraps on the rank at hand: blocks, experts, tables.

    Of a pipeline's fullest rank the head's table is taken, which has the final norm beside it.
    """
    shard = job.layout.dp_shard * job.layout.cp
    if present(job.stage_dense):
        yield Unit(
            name="block", parameters=tuple(dense_parameters(job)), count=job.stage_dense,
            shard=shard,
        )  # fmt: skip
    if present(job.stage_moe):
        yield Unit(
            name="expert block", parameters=tuple(sparse_parameters(job)), count=job.stage_moe,
            shard=shard,
        )  # fmt: skip
        ranks = expert_shard_ranks(job)
        yield Unit(
            name="experts", parameters=tuple(expert_parameters(job, ranks)), count=job.stage_moe,
            shard=ranks, expert=True,
        )  # fmt: skip
    yield from _tables(job, shard)


def _tables(job: Job, shard: Num) -> Iterator[Unit]:
    s, one = job.shape, np.equal(job.layout.pp, 1)
    table = Parameter(rows=s.vocab / job.layout.tp, columns=s.hidden)
    norm = Parameter(rows=s.hidden, count=s.norm_vectors)
    places = Parameter(rows=s.positions / job.layout.tp, columns=s.hidden)
    first = np.where(one, 1.0, 0.0) if job.place is None else holds_first(job)
    last = holds_last(job)
    root = one & np.greater(s.tied, 0)
    if present(root):
        yield Unit(
            name="tied table", parameters=(table, norm, places), count=root * 1.0, shard=shard,
            again=False,
        )  # fmt: skip
    if not present(~root):
        return
    yield Unit(name="embedding", parameters=(table,), count=~root * first, shard=shard)
    yield Unit(name="head", parameters=(norm, table), count=~root * last, shard=shard, again=False)
    if present(s.positions):
        learned = np.greater(s.positions, 0) * first
        yield Unit(
            name="positions", parameters=(places,), count=~root * learned, shard=shard, again=False
        )


def _unit_messages(job: Job, unit: Unit) -> Iterator[Operation]:
    late = reduces_once(job)
    elements = padded(unit.parameters, unit.shard)
    count = unit.count * np.greater(unit.shard, 1)
    if present(count):
        yield from _gathers(job, unit, HALF * elements, count)
        yield from by_time(
            late, f"{unit.name} gradient scatter", "dp_shard", "reduce_scatter",
            float32(job, elements), count, phase="backward", expert=unit.expert,
        )  # fmt: skip
    copies = unit.count * np.greater(job.layout.dp_replicate, 1)
    if present(copies):
        yield from by_time(
            late, f"{unit.name} replica sum", "dp_replicate", "all_reduce",
            float32(job, elements / unit.shard), copies, phase="backward", expert=unit.expert,
        )  # fmt: skip


def _gathers(job: Job, unit: Unit, buffer: Num, count: Num) -> Iterator[Operation]:
    piped = np.greater(job.layout.pp, 1)
    yield from by_time(
        piped, f"{unit.name} gather", "dp_shard", "all_gather", buffer, count, expert=unit.expert
    )
    again = count * np.equal(job.layout.zero, 3) * unit.again
    if present(again):
        yield message(
            f"{unit.name} gather again", "dp_shard", "all_gather", buffer, again, phase="backward",
            backward=0.0, redo="never", expert=unit.expert,
        )  # fmt: skip


def by_time(
    once: Bool, name: str, axis: Axis, collective: str, buffer: Num, count: Num, **fields: object
) -> Iterator[Operation]:
    """Yield a message of every micro-batch, or of the step where that is `once`."""
    fields |= {"backward": 0.0, "redo": "never"}
    each = np.logical_not(once)
    if present(count * each):
        yield message(name, axis, collective, buffer, count * each, **fields)
    if present(count * once):
        fields |= {"phase": "step", "repeat": "step"}
        yield message(name, axis, collective, buffer, count * once, **fields)


def reduces_once(job: Job) -> NDArray[np.bool_]:
    """Return where gradients are reduced once a step: in pipelines, and below ZeRO-2."""
    return np.greater(job.layout.pp, 1) | np.less(job.layout.zero, 2)


def _partial_gradients(job: Job) -> Iterator[Operation]:
    """Yield sums of gradients that each tensor-parallel rank has of its own tokens or heads.

    Of norms under sequence parallelism, of routers, of norms of queries and keys, and of what
    makes and scales latent vectors. In the format of the products where FSDP reduces what one
    micro-batch left, in 32 bits where gradients were added up before.
    """
    several = np.greater(job.layout.tp, 1) * 1.0
    if not present(several):
        return
    s, layers = job.shape, job.stage_layers
    held, one = wrapped(job), np.equal(job.layout.pp, 1)
    once = reduces_once(job) | ~held
    narrow = held & one & (np.greater_equal(job.layout.zero, 2) | np.equal(job.micro_batches, 1))
    norms = layers * s.norms / s.layers + holds_last(job)
    latent, low = layers * s.mla, layers * s.mla * np.greater(s.q_lora, 0)
    for name, elements, count in (
        ("norm", s.hidden, norms * s.norm_vectors * job.layout.sequence_parallel),
        ("router", s.experts * s.hidden, job.stage_moe),
        ("query and key norm", s.head_dim, 2 * layers * s.qk_norm * (1 - s.mla)),
        ("latent norm", s.kv_lora, latent),
        ("query norm", s.q_lora, low),
        ("query down", s.q_lora * s.hidden, low),
    ):
        if present(count):
            size = np.where(narrow, HALF * elements, float32(job, elements))
            yield from by_time(
                once, f"tp {name} gradient", "tp", "all_reduce", size, count * several,
                phase="backward",
            )  # fmt: skip


def step_sums(job: Job) -> Iterator[Operation]:
    """Yield what a step sums once: a tied table's gradient, experts' loads, three numbers."""
    s, layout = job.shape, job.layout
    tied = np.greater(layout.pp, 1) & np.greater(s.tied, 0)
    if present(tied):
        shard = np.where(wrapped(job), layout.dp_shard * layout.cp, 1.0)
        rows = np.ceil(s.vocab / layout.tp / shard)
        ends = 1.0 if job.place is None else np.maximum(job.place.first, job.place.last)
        yield _once("tied table gradient", "tied", float32(job, rows * s.hidden), tied * ends)
    if present(job.stage_moe):
        axes: tuple[tuple[Axis, Num], ...] = (
            ("dp_replicate", layout.dp_replicate), ("dp_shard", layout.dp_shard * layout.cp),
            ("tp", layout.tp),
        )  # fmt: skip
        loads = float32(job, job.stage_moe * s.experts)
        here = np.greater(job.stage_moe, 0)
        for axis, ranks in axes:
            yield _once(f"expert loads over {axis}", axis, loads, here & np.greater(ranks, 1))
    yield _once("norm and loss", "world", SUMS * DOUBLE / job.machine.element_scale, 1.0)


def _once(name: str, axis: Axis, buffer: Num, count: Bool | Num) -> Operation:
    return message(
        name, axis, "all_reduce", buffer, count * 1.0, stage="rank", phase="step", repeat="step",
        backward=0.0, redo="never",
    )  # fmt: skip
