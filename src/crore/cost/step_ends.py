"""Operations at the ends of the pipeline and once per step: tables, head, loss, optimizer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Gemm, Operation, matmul
from crore.cost.step_eager import eager_ends
from crore.cost.step_layers import HALF, memory_pass

FLOAT = 4.0
"""Bytes of a 32-bit element."""


def end_operations(job: Job) -> Iterator[Operation]:
    """Yield embedding, head and loss of one micro-batch, prediction modules included."""
    if present(job.eager):
        yield from eager_ends(job)
        return
    s, tokens, tp = job.shape, job.tokens, job.layout.tp
    yield memory_pass("embedding", 2 * HALF * tokens * s.hidden, 1.0, stage="first", launches=3.0)
    passes = 1 + job.mtp
    yield matmul(
        "head", Gemm(m=tokens, n=s.vocab / tp, k=s.hidden, half=True), HALF * tokens * s.hidden,
        count=passes, stage="last",
    )  # fmt: skip
    logits = tokens * s.vocab / tp
    fused = job.stack.fused_cross_entropy
    # Unfused: a 32-bit copy, its log-softmax and the gradient, each written and read once.
    moved = (2 * HALF * fused + (HALF + 4 * FLOAT) * (1 - fused)) * logits
    kept = (HALF * fused + (HALF + 2 * FLOAT) * (1 - fused)) * logits
    yield memory_pass(
        "cross-entropy", moved, passes, stage="last", saved_bytes=kept, backward=1.0, launches=8.0
    )


def local_weights(job: Job) -> tuple[Num, Num, Num]:
    """Return weight elements on one rank: layers without experts, routed experts, one table.

    Of the fullest stage. Norms are replicated over tensor-parallel ranks, and small.
    """
    s, w, layout = job.shape, job.weights, job.layout
    mixers = s.attention * w.attention + s.mamba * w.mamba + s.deltanet * w.deltanet
    feed = job.stage_dense * w.dense + job.stage_moe * w.shared
    plain = (mixers * job.stage_share + feed) / layout.tp + w.norms * job.stage_share
    experts = job.stage_moe * s.experts * w.expert / (layout.ep * layout.etp)
    return plain, experts, w.embedding / layout.tp


def stage_weights(job: Job) -> tuple[Num, Num]:
    """Return (plain, expert) weight elements on the fullest rank, the larger end included.

    One pipeline rank holds embedding and head (one table when tied); with more, each end holds one.
    """
    plain, experts, table = local_weights(job)
    untied = np.greater(job.weights.head, 0)
    tables = np.where(np.equal(job.layout.pp, 1), 1.0 + untied, 1.0)
    mtp = np.where(np.greater(job.mtp, 0), job.weights.mtp, 0.0)
    ranks = np.where(np.greater(job.shape.experts, 0), job.layout.ep, 1.0) * job.layout.tp
    return plain + tables * table + mtp / ranks, experts


def accumulation(job: Job) -> Iterator[Operation]:
    """Yield adding the layers' weight gradients to their buffer, once per micro-batch.

    Unfused, a 16-bit gradient is read and the buffer read and written; fused into the product, the
    buffer alone. A fully sharded run adds its own shard after the scatter.
    """
    if not present(job.stack.accumulate_bytes):
        return
    plain, experts, _ = local_weights(job)
    per_weight = job.stack.accumulate_bytes - 2 * (FLOAT - job.gradient_bytes)
    whole = np.not_equal(job.layout.zero, 3) * np.greater(job.stack.accumulate_bytes, 0)
    yield Operation(
        name="gradient accumulation", kind="memory", phase="backward", redo="never",
        bytes_moved=(plain + experts) * per_weight * whole,
    )  # fmt: skip


def optimizer_operations(job: Job) -> Iterator[Operation]:
    """Yield the optimizer step: states and gradient read, states and weights written."""
    plain, experts = stage_weights(job)
    layout = job.layout
    sharded = np.greater_equal(layout.zero, 1)
    dp = np.where(sharded, layout.dp_shard * layout.cp, 1.0)
    expert_dp = np.where(sharded, expert_shard_ranks(job), 1.0)
    elements = plain / dp + experts / expert_dp
    moved = elements * (2 * job.state_bytes + FLOAT + job.stack.weight_bytes + HALF)
    yield Operation(
        name="optimizer", kind="optimizer", stage="rank", phase="step", repeat="step",
        bytes_moved=moved, launches=40.0,
    )  # fmt: skip
    host = elements * job.state_bytes * layout.offload_optimizer
    if present(host):
        yield Operation(
            name="optimizer states to host and back", kind="transfer", stage="rank", phase="step",
            repeat="step", message_bytes=2 * host,
        )  # fmt: skip


def expert_data_ranks(job: Job) -> Num:
    """Return ranks that hold the same expert shard of one pipeline stage, at least 1."""
    layout = job.layout
    ranks = layout.dp * layout.cp * layout.tp
    return np.maximum(ranks / (layout.ep * layout.etp), 1.0)


def expert_shard_ranks(job: Job) -> Num:
    """Return ranks that share one copy of an expert's states, at least 1.

    Those of `expert_data_ranks` inside one shard group: a replica of it, above all a world that is
    to go on alone, holds a copy of its own.
    """
    layout = job.layout
    ranks = layout.dp_shard * layout.cp * layout.tp
    return np.maximum(np.floor(ranks / (layout.ep * layout.etp)), 1.0)
