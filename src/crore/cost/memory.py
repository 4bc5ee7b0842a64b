"""Peak memory of the worst pipeline rank, from the same operation list as the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.memory_eager import eager_parts, floor_bytes
from crore.cost.operations import Operation
from crore.cost.schedules import in_flight, weight_copies
from crore.cost.step import computing_operations
from crore.cost.step_ends import FLOAT, expert_shard_ranks, stage_weights
from crore.cost.step_layers import HALF

CONTEXT_BYTES: Final = 2.0e9
"""CUDA context and NCCL buffers, outside the allocator: the middle of the usual 1-3 GB."""
FRAGMENTATION: Final = 0.05
"""Reserved over allocated, less one: the middle of the 3-8 % that caching allocators lose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on the worst rank, a float or `[N]` each; `peak_bytes` is the sum of the parts."""

    peak_bytes: Num
    allocated_bytes: Num
    """What the allocator has handed out at the peak; without context and fragmentation."""
    parts: dict[str, Num]
    capacity_bytes: Num

    @property
    def fits(self) -> Num:
        """True where the peak is within the card's memory."""
        return np.less_equal(self.peak_bytes, self.capacity_bytes)


def state_parts(job: Job) -> dict[str, Num]:
    """Return weights, gradients and optimizer states of the fullest rank (ZeRO, arXiv 1910.02054).

    Below ZeRO-3 a rank holds its whole stage; what a stage shards it shards over data and context
    ranks, experts over the ranks of a shard group that hold the same expert.
    """
    layout, stack = job.layout, job.stack
    plain, experts = stage_weights(job)
    zero = layout.zero
    shard = layout.dp_shard * layout.cp
    expert_shard = expert_shard_ranks(job)
    full = np.equal(zero, 3)
    # Training in 32 bits needs no second copy of the weights.
    wide = np.greater(job.machine.element_scale, 1)
    states = job.state_bytes - wide * FLOAT * np.less(stack.weight_bytes, FLOAT)
    weight_bytes = np.where(wide, FLOAT, stack.weight_bytes)
    # Master weights that are the weights themselves (fully sharded, 32 bits) are held only once;
    # a stack that keeps 16-bit weights has its 32-bit copy among the optimizer states.
    copies = weight_copies(layout.schedule, layout.pp)
    sharded = np.greater_equal(zero, 1)

    def held(bytes_each: Num, stage: int) -> Num:
        cut = np.greater_equal(zero, stage)
        # Shards are padded to equal whole elements.
        rows = np.ceil(plain / np.where(cut, shard, 1.0))
        return bytes_each * (rows + np.ceil(experts / np.where(cut, expert_shard, 1.0)))

    layer = (plain + experts) / job.stage_layers
    element = HALF * job.machine.element_scale
    gathered = full * layer * (element * (1 + layout.prefetch) + FLOAT)
    return {
        "weights": held(weight_bytes, 3) * copies,
        "gradients": held(job.gradient_bytes, 2)
        + stack.gradient_copy_bytes * sharded * (plain + experts),
        "optimizer": held(states, 1) * (1 - layout.offload_optimizer),
        "gathered layers": gathered,
    }


class Stored(NamedTuple):
    """Activation bytes of one micro-batch, as 16-bit elements; a float or `[N]` each."""

    kept: Num
    """By a stage's layers, until their backward pass."""
    layer: Num
    """Of one layer whole."""
    loss: Num


def stored(job: Job, ops: list[Operation]) -> Stored:
    """Return what the forward pass of a step's operations keeps.

    A layer that is recomputed keeps only its input, `2·T·h` (arXiv 2205.05198 Table 2).
    """
    kept: Num = 0.0
    whole: Num = 0.0
    loss: Num = 0.0
    for op in ops:
        if op.phase != "forward":
            continue
        held = op.saved_bytes * op.count
        if op.stage == "last":
            loss = loss + held
        elif op.stage == "layer":
            kept = kept + held * job.kept_share(op)
            whole = whole + held
    boundary = job.stack.keeps_outputs * np.greater(job.layout.pp, 1)
    whole_inputs = job.stage_layers * job.redo_layer + boundary
    inputs = HALF * job.narrow_tokens * job.shape.hidden * whole_inputs
    return Stored(kept=kept + inputs, layer=whole / job.stage_layers, loss=loss)


def working_bytes(job: Job, layer: Num) -> tuple[Num, Num]:
    """Return transient bytes of the backward pass: in a layer, and at the loss.

    A recomputed layer comes back whole; otherwise the widest gradients of one layer are alive. The
    loss holds the gradient of its logits while it is formed.
    """
    s, tp = job.shape, job.layout.tp
    width = np.maximum(np.maximum(s.ffn, s.moe_ffn * s.topk) / tp * (s.matrices - 1), s.hidden)
    gradients = 2 * HALF * job.tokens * width
    # Dispatch and combine each hold what is sent and what has arrived.
    gradients = gradients + 4 * HALF * job.expert_tokens / job.layout.etp * s.hidden
    again = np.greater(job.redo_layer, 0) * layer
    logits = job.tokens * s.vocab / tp
    fused = job.stack.fused_cross_entropy
    return again + gradients, logits * (HALF * fused + FLOAT * (1 - fused))


def memory(job: Job, ops: list[Operation] | None = None) -> Memory:
    """Return peak bytes and their parts: the first rank holds most in flight, the last the loss.

    `ops` is the step's list where it is made already; a stack read off its code needs none.
    """
    if present(job.stack.eager):
        return _eager_memory(job)
    return memory_of(job, stored(job, computing_operations(job) if ops is None else ops))


def memory_of(job: Job, activations: Stored) -> Memory:
    """Return the memory of a step whose operations store `activations`; a closed form."""
    layout = job.layout
    parts = state_parts(job)
    scale = job.machine.element_scale
    it = activations
    kept, layer, loss = it.kept * scale, it.layer * scale, it.loss * scale
    held = in_flight(layout.schedule, layout.pp, layout.vpp, job.micro_batches)
    in_layer, at_loss = (part * scale for part in working_bytes(job, layer / scale))
    stay = 1 - layout.offload_activations
    first = kept * held * stay
    one = np.equal(layout.pp, 1)
    last = kept * np.where(one, held, 1.0) * stay + loss
    last_rank = last + np.maximum(in_layer - loss, at_loss)
    first_rank = np.where(one, 0.0, first + in_layer)
    worst_is_last = np.greater_equal(last_rank, first_rank)
    parts["activations"] = np.where(worst_is_last, last - loss, first)
    parts["logits"] = np.where(worst_is_last, loss, 0.0)
    parts["working"] = np.where(worst_is_last, np.maximum(in_layer - loss, at_loss), in_layer)
    allocated = sum(parts.values(), start=np.asarray(0.0))
    return _memory(job, parts, allocated)


def floor_peak_bytes(job: Job) -> Num:
    """Return bytes that `memory` never undercuts, far cheaper; 0 where it is cheap itself."""
    if not present(job.stack.eager):
        return 0.0
    return _memory(job, {}, floor_bytes(job)).peak_bytes


def floor_state_bytes(job: Job) -> Num:
    """Return the peak that weights, gradients and optimizer states alone would make.

    Of a stack whose memory is a closed form; `memory` never undercuts it, for a tenth of its work.
    """
    states = {k: part for k, part in state_parts(job).items() if k != "gathered layers"}
    return _memory(job, {}, sum(states.values(), start=np.asarray(0.0))).peak_bytes


def _eager_memory(job: Job) -> Memory:
    """Return the peak of an eager step; `parts["context"]` is the process before it has a model."""
    parts = eager_parts(job)
    return _memory(job, parts, sum(parts.values(), start=np.asarray(0.0)))


def _memory(job: Job, parts: dict[str, Num], allocated: Num) -> Memory:
    """Add what the allocator loses and what the process holds beside tensors."""
    measured, gpu = job.machine.measured, 1 - job.machine.cpu
    process = 0.0 if measured is None else measured.process_bytes
    context = gpu * CONTEXT_BYTES + process * job.machine.cpu
    parts["fragmentation"] = gpu * FRAGMENTATION * allocated
    parts["context"] = context + 0.0 * allocated
    peak = allocated * (1 + gpu * FRAGMENTATION) + context
    return Memory(
        peak_bytes=peak, allocated_bytes=allocated, parts=parts,
        capacity_bytes=job.machine.memory_bytes,
    )  # fmt: skip
