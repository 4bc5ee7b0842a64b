"""Peak tensor bytes of an eager step on a CPU: the highest of three moments, no allocator's share.

At the loss every activation is kept and the logits' gradients are made. In the last layer's
backward pass most activations are still there and gradients begin. In the first layer's nearly all
gradients exist. What lies between is between them.
"""

from __future__ import annotations

import numpy as np

from crore.cost.arrays import Num
from crore.cost.job import Job
from crore.cost.schedules import in_flight
from crore.cost.step_eager import FLOAT
from crore.cost.step_ends import local_weights, stage_weights
from crore.cost.step_fsdp import block_weights, shard_ranks, table_weights


def eager_parts(job: Job, kept: Num, layer: Num, loss: Num) -> dict[str, Num]:
    """Return the parts of the peak from activation bytes: of a stage's layers, of one, of the loss.

    Gradients of earlier micro-batches are there from the start; those of the first come one by one,
    and are counted at the end of its backward pass.
    """
    plain, experts = stage_weights(job)
    ranks, zero = shard_ranks(job), job.layout.zero
    sharded = plain / ranks + experts
    further = np.greater(job.micro_batches, 1) * 1.0
    whole = np.less(zero, 2) & np.greater(further, 0)
    gradients = FLOAT * (np.where(whole, plain, plain / ranks) + experts)
    gathered = np.where(np.equal(zero, 3), table_weights(job), plain) * np.greater(ranks, 1)
    layout = job.layout
    stay = kept * in_flight(layout.schedule, layout.pp, layout.vpp, job.micro_batches)
    left = stay - kept * (1 - 1 / job.stage_layers)
    inside = _layer_bytes(job, layer)
    moments: tuple[tuple[Num, ...], ...] = (
        (stay, loss, 2 * logits_bytes(job), gradients * further),
        (stay, 0.0, inside + FLOAT * local_weights(job)[2], gradients * further),
        (left, 0.0, inside + _table_gradients(job, further), gradients),
    )
    activations, logits, working, summed = _highest(moments)
    return {
        "weights": FLOAT * sharded, "gradients": summed, "optimizer": job.state_bytes * sharded,
        "gathered layers": FLOAT * gathered, "activations": activations, "logits": logits,
        "working": working,
    }  # fmt: skip


def _highest(moments: tuple[tuple[Num, ...], ...]) -> list[Num]:
    """Return the parts of the moment whose sum is the largest, candidate by candidate."""
    totals = np.stack(np.broadcast_arrays(*(sum(parts) for parts in moments)))
    which = totals.argmax(axis=0)
    columns = zip(*moments, strict=True)
    return [np.choose(which, np.broadcast_arrays(*column, which)[:-1]) for column in columns]


def logits_bytes(job: Job) -> Num:
    """Bytes of 32-bit logits of one micro-batch on a rank."""
    return FLOAT * job.tokens * job.shape.vocab / job.layout.tp


def _layer_bytes(job: Job, layer: Num) -> Num:
    """Working bytes of one layer's backward pass.

    Gradients of the feed-forward's two widest tensors and of its in- and output; a recomputed layer
    whole; under FSDP the scatter's buffer and shard, and for ZeRO-3 the next block beside the one
    at work, gathered and copied out.
    """
    s = job.shape
    element = 2.0 * job.machine.element_scale
    width = np.maximum(s.ffn, s.moe_ffn * s.topk) / job.layout.tp
    gradients = element * job.tokens * 2 * (width + s.hidden)
    again = np.greater(job.redo_layer, 0) * layer
    ranks = shard_ranks(job)
    buffers = 1 + 1 / ranks + 2 * np.equal(job.layout.zero, 3)
    block = FLOAT * block_weights(job) * buffers * np.greater(ranks, 1)
    return gradients + again + block


def _table_gradients(job: Job, further: Num) -> Num:
    """Gradients of a tied table while they are added: the head's, the embedding's, their sum.

    One of the three is the gradient that stays, unless it is there from earlier micro-batches.
    """
    table = FLOAT * local_weights(job)[2]
    return table * (job.shape.tied * 2 + 1.0 * further)
