"""The step as one list of operations, from the layers to the optimizer."""

from __future__ import annotations

from dataclasses import replace

from crore.cost.job import Job
from crore.cost.operations import Operation, backward_of, recompute_of
from crore.cost.step_ends import accumulation, end_operations, optimizer_operations
from crore.cost.step_layers import (
    attention_layer,
    deltanet_layer,
    dense_layer,
    mamba_layer,
    moe_layer,
)
from crore.cost.step_messages import (
    layer_messages,
    pipeline_messages,
    sharded_messages,
    step_messages,
)

LAYERS = (attention_layer, mamba_layer, deltanet_layer, dense_layer, layer_messages)


def operations(job: Job) -> list[Operation]:
    """Return every operation of one step on the ranks of the fullest stage and the two ends."""
    ops: list[Operation] = []
    forward = [op for build in LAYERS for op in build(job)]
    forward += [replace(op, expert=True) for op in moe_layer(job)]
    forward += [
        *end_operations(job),
        *pipeline_messages(job),
        *sharded_messages(job),
        *accumulation(job),
    ]
    for op in forward:
        ops.append(op)
        if op.phase != "forward":
            continue
        again = recompute_of(op, job.redo_share(op))
        if again is not None:
            ops.append(again)
        if op.backward:
            ops.append(backward_of(op))
    return [*ops, *step_messages(job), *optimizer_operations(job)]
