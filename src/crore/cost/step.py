"""The step as one list of operations, from the layers to the optimizer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Gemm, Operation, backward_of, matmul, recompute_of, twin
from crore.cost.recompute_crore import redone
from crore.cost.step_crore import activation_messages
from crore.cost.step_crore_data import step_sums, weight_messages
from crore.cost.step_data import sharded_messages, step_messages
from crore.cost.step_ends import accumulation, end_operations, optimizer_operations
from crore.cost.step_fsdp import eager_updates, fsdp_copies
from crore.cost.step_layers import (
    HALF,
    attention_layer,
    deltanet_layer,
    dense_layer,
    mamba_layer,
    moe_layer,
)
from crore.cost.step_messages import layer_messages, pipeline_messages

LAYERS = (attention_layer, mamba_layer, deltanet_layer, dense_layer)


def computing_operations(job: Job) -> list[Operation]:
    """Return the kernels of a forward pass: all that keeps memory until the backward pass."""
    forward = [op for build in LAYERS for op in build(job)]
    forward += [twin(op, expert=True) for op in moe_layer(job)]
    return [*forward, *end_operations(job), *prediction_modules(job)]


def forward_operations(job: Job) -> list[Operation]:
    """Return the forward pass with its messages, and what a micro-batch adds to it."""
    return [*computing_operations(job), *sharing_operations(job)]


def sharing_operations(job: Job) -> list[Operation]:
    """Return what a micro-batch does because ranks share the work: alone it asks for ZeRO."""
    copies = fsdp_copies(job) if present(job.eager) else accumulation(job)
    return [*micro_batch_messages(job), *copies]


def micro_batch_messages(job: Job) -> Iterator[Operation]:
    """Yield what a micro-batch sends: what crore's code does, or what other stacks do."""
    if present(job.stack.eager):
        yield from activation_messages(job)
        yield from weight_messages(job)
        return
    yield from layer_messages(job)
    yield from pipeline_messages(job)
    yield from sharded_messages(job)


def operations(job: Job) -> list[Operation]:
    """Return every operation of one step on the ranks of the fullest stage and the two ends."""
    return operations_of(job, forward_operations(job))


def operations_of(job: Job, forward: list[Operation]) -> list[Operation]:
    """Return the operations of a step whose forward pass is listed already."""
    offloaded = activation_transfer(job, forward)
    once = step_sums(job) if present(job.stack.eager) else step_messages(job)
    updates = eager_updates(job) if present(job.eager) else optimizer_operations(job)
    return [*passes_of(job, forward), *offloaded, *once, *updates]


def passes_of(job: Job, forward: list[Operation]) -> list[Operation]:
    """Return operations of a forward pass, each with those that it has again and backward."""
    ops: list[Operation] = []
    for op in forward:
        ops.append(op)
        if op.phase != "forward":
            continue
        again = recompute_of(op, _redone(job, op))
        if again is not None:
            ops.append(again)
        if op.backward:
            ops.append(backward_of(op))
    return ops


def chain_operations(job: Job, forward: list[Operation]) -> list[Operation]:
    """Return what recompute and stored activations in host memory add to a step without either."""
    ran = [op for op in forward if op.phase == "forward"]
    again = (recompute_of(op, _redone(job, op)) for op in ran)
    return [*(op for op in again if op is not None), *activation_transfer(job, forward)]


def _redone(job: Job, op: Operation) -> Num:
    return redone(job, op) if present(job.stack.eager) else job.redo_share(op)


def prediction_modules(job: Job) -> Iterator[Operation]:
    """Yield the layers of multi-token prediction on the last rank (arXiv 2412.19437 §2.2).

    A module joins two hidden states by one product and runs one layer of the model's last kind;
    its pass through the head is among the ends. Its messages are left out: one layer of many.
    """
    if not present(job.mtp):
        return
    h = job.shape.hidden
    yield matmul(
        "mtp projection", Gemm(m=job.tokens, n=h / job.layout.tp, k=2 * h),
        HALF * job.narrow_tokens * 2 * h, count=job.mtp, stage="last",
    )  # fmt: skip
    sparse = np.greater(job.shape.experts, 0)
    kinds = (
        (attention_layer(job), job.shape.attention * job.stage_share, False, 1.0),
        (dense_layer(job), job.stage_dense, False, 1.0 - sparse),
        (moe_layer(job), job.stage_moe, True, 1.0 * sparse),
    )
    for ops, layers, expert, here in kinds:
        each = job.mtp * here / np.where(np.greater(layers, 0), layers, 1.0)
        for op in ops:
            yield twin(op, stage="last", count=op.count * each, expert=expert)


def activation_transfer(job: Job, forward: list[Operation]) -> list[Operation]:
    """Return the copy of stored activations to the host and back, where a share is offloaded."""
    share = job.layout.offload_activations
    if not present(share):
        return []
    kept: Num = 0.0
    for op in forward:
        if op.stage == "layer" and op.phase == "forward":
            kept = kept + op.saved_bytes * op.count * job.kept_share(op)
    moved = 2 * share * kept
    return [
        Operation(
            name="activations to host and back", kind="transfer", stage="rank",
            message_bytes=moved, redo="never",
        )
    ]  # fmt: skip
