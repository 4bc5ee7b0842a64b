"""Messages of data parallelism: shards gathered and gradients reduced, layers and experts apart.

Plain weights are copied over data and context ranks; an expert's over the ranks that hold the same
expert, which stand `ep·etp` apart and so share fewer links of a scale-up domain. Buffer conventions
are those of `collectives`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Axis, Operation
from crore.cost.step_ends import (
    expert_data_ranks,
    expert_shard_ranks,
    local_weights,
    stage_weights,
)
from crore.cost.step_layers import HALF
from crore.cost.step_messages import message


@dataclass(frozen=True, kw_only=True, slots=True)
class _Weights:
    """One kind of weights on a rank, and who holds copies of them."""

    name: str
    elements: Num
    layers: Num
    """Layers of the rank that hold some."""
    shard: Num
    """Ranks of one shard group."""
    everyone: Num
    """Ranks with a copy or a shard of it."""
    expert: bool


def _kinds(job: Job) -> Iterator[_Weights]:
    layout = job.layout
    plain, experts = stage_weights(job)
    yield _Weights(
        name="", elements=plain, layers=job.stage_layers, expert=False,
        shard=layout.dp_shard * layout.cp, everyone=layout.dp * layout.cp,
    )  # fmt: skip
    if present(experts):
        yield _Weights(
            name="expert ", elements=experts, layers=job.stage_moe, expert=True,
            shard=expert_shard_ranks(job), everyone=expert_data_ranks(job),
        )  # fmt: skip


def sharded_messages(job: Job) -> Iterator[Operation]:
    """Yield fully sharded gathers (each pass) and gradient scatters (each micro-batch).

    A layer gathered for its backward pass is recomputed from the same weights (arXiv 1910.02054
    §7.2.2: three volumes a step). Context ranks hold shards like data ranks. ZeRO-2 holds no whole
    gradients, so it scatters them every micro-batch too.
    """
    zero = job.layout.zero
    if not present(np.greater_equal(zero, 2)):
        return
    for kind in _kinds(job):
        several = np.greater(kind.shard, 1) * kind.layers
        buffer = HALF * kind.elements / np.maximum(kind.layers, 1.0)
        gathers = several * np.equal(zero, 3)
        yield message(
            f"{kind.name}shard gather", "dp_shard", "all_gather", buffer, gathers, backward=0.0,
            redo="never", expert=kind.expert,
        )  # fmt: skip
        yield message(
            f"{kind.name}shard gather again", "dp_shard", "all_gather", buffer, gathers,
            phase="backward", expert=kind.expert,
        )  # fmt: skip
        yield message(
            f"{kind.name}gradient scatter", "dp_shard", "reduce_scatter",
            buffer / HALF * job.stack.reduce_bytes, several * np.greater_equal(zero, 2),
            phase="backward", expert=kind.expert,
        )  # fmt: skip


def step_messages(job: Job) -> Iterator[Operation]:
    """Yield what data parallelism sends once per step: gradients out, weights back.

    Shards are scattered and gathered inside a shard group; replicas of such groups, worlds of an
    island among them, then reduce each shard across. Without shards all copies reduce together.
    """
    for kind in _kinds(job):
        yield from _once(job, kind)
    tied = np.greater(job.layout.pp, 1) * job.shape.tied
    if present(tied):
        table = local_weights(job)[2] * job.stack.reduce_bytes
        yield _step("tied table exchange", "pp", "p2p", 2 * table, tied)


def _once(job: Job, kind: _Weights) -> Iterator[Operation]:
    zero, name, held = job.layout.zero, kind.name, np.greater(kind.elements, 0)
    gradients = kind.elements * job.stack.reduce_bytes
    several = np.greater(kind.shard, 1) & held
    yield _step(
        f"{name}gradient reduce-scatter", "dp_shard", "reduce_scatter", gradients,
        several & np.equal(zero, 1), kind.expert,
    )  # fmt: skip
    yield _step(
        f"{name}weight all-gather", "dp_shard", "all_gather", kind.elements * HALF,
        several & (np.equal(zero, 1) | np.equal(zero, 2)), kind.expert,
    )  # fmt: skip
    yield _step(
        f"{name}gradient all-reduce", "dp_replicate", "all_reduce", gradients,
        np.greater(kind.everyone, 1) & held & np.equal(zero, 0), kind.expert,
    )  # fmt: skip
    replicas = np.greater(kind.everyone, kind.shard) & held & np.greater_equal(zero, 1)
    if present(replicas):
        yield _step(
            f"{name}replica all-reduce", "dp_replicate", "all_reduce", gradients / kind.shard,
            replicas, kind.expert,
        )  # fmt: skip


def _step(
    name: str, axis: Axis, collective: str, buffer: Num, count: Num, expert: bool = False
) -> Operation:
    return message(
        name, axis, collective, buffer, count * 1.0, stage="rank", phase="step", repeat="step",
        expert=expert,
    )  # fmt: skip
