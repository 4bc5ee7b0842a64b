"""What FSDP2 does to weights and gradients beside its messages: the copies around them.

Every micro-batch gathers each block in its forward pass and frees it after its last use. ZeRO-3
gathers blocks (not the tables) once more backward, ZeRO-1 and 2 keep them until then. ZeRO-2 and 3
scatter gradients every micro-batch, ZeRO-1 after the last (torch/distributed/fsdp/_fully_shard).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Operation
from crore.cost.step_eager import HALF, float32
from crore.cost.step_ends import local_weights, stage_weights


def shard_ranks(job: Job) -> Num:
    """Return the ranks that share one copy of the plain weights."""
    return np.where(np.greater_equal(job.layout.zero, 1), job.layout.dp_shard * job.layout.cp, 1.0)


def table_weights(job: Job) -> Num:
    """Return the elements that FSDP's root holds on a rank: the tables of embedding and head."""
    table = local_weights(job)[2]
    untied = np.greater(job.weights.head, 0)
    return np.where(np.equal(job.layout.pp, 1), 1.0 + untied, 1.0) * table


def block_weights(job: Job) -> Num:
    """Return the elements of one block on a rank, experts left out."""
    return (stage_weights(job)[0] - table_weights(job)) / job.stage_layers


def fsdp_copies(job: Job) -> Iterator[Operation]:
    """Yield the copies of plain weights in and out of the buffers of gathers and scatters."""
    ranks, zero = shard_ranks(job), job.layout.zero
    several = np.greater(ranks, 1) * 1.0
    if not present(several):
        return
    blocks, tables = job.stage_layers * several, several
    again = blocks * np.equal(zero, 3)
    scatters = np.where(np.greater_equal(zero, 2), 1.0, 1.0 / job.micro_batches)
    for name, elements, count, more in (
        ("block", block_weights(job), blocks, again),
        ("table", table_weights(job), tables, 0.0),
    ):
        weights, gradients = HALF * elements, float32(job, elements)
        yield _copies(f"{name} gather copies", weights, 2 + 2 / ranks, count)
        if present(more):
            yield _copies(f"{name} copies again", weights, 2 + 2 / ranks, more)
        yield _copies(f"{name} scatter copies", gradients, 2.0, count * scatters)


def _copies(name: str, size: Num, tensors: Num, count: Num) -> Operation:
    return Operation(
        name=name, kind="memory", phase="backward", redo="never", bytes_moved=size * tensors,
        tensor_bytes=size, count=count, launches=20.0,
    )  # fmt: skip


def eager_updates(job: Job) -> Iterator[Operation]:
    """Yield adding each further micro-batch's gradients, and the optimizer's step on the shards.

    AdamW reads weight, gradient and two moments and writes all but the gradient; the norm for
    clipping reads gradients once more.
    """
    plain, experts = stage_weights(job)
    ranks = shard_ranks(job)
    whole = np.where(np.greater_equal(job.layout.zero, 2), ranks, 1.0)
    further = 1.0 - 1.0 / job.micro_batches
    if present(further):
        size = float32(job, plain / whole + experts)
        yield Operation(
            name="gradient accumulation", kind="memory", phase="backward", redo="never",
            bytes_moved=3 * size, tensor_bytes=size / 32, count=further, launches=32.0,
        )  # fmt: skip
    elements = plain / ranks + experts / ranks
    yield Operation(
        name="optimizer", kind="optimizer", stage="rank", phase="step", repeat="step",
        bytes_moved=elements * (2 * job.state_bytes + 4 * HALF * 2), launches=40.0,
    )  # fmt: skip
