"""Step time: price every operation, then add up what is not hidden behind something else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.constants import Constants
from crore.cost.job import Job
from crore.cost.layout import SELECTIVE
from crore.cost.measured import MeasuredPricer
from crore.cost.operations import Operation
from crore.cost.pipeline import Pipeline, Waiting, waiting
from crore.cost.price import Pricer
from crore.cost.schedules import ends_apart
from crore.cost.shape import core_width, forward_flops_per_token, mean_context
from crore.cost.step import operations
from crore.cost.stragglers import barrier_slowdown


@dataclass(kw_only=True, slots=True)
class Tally:
    """Running sums of one micro-batch on one rank; seconds, floats or `[N]`."""

    product: Num = 0.0
    attention: Num = 0.0
    memory: Num = 0.0
    recompute: Num = 0.0
    forward: Num = 0.0
    weight: Num = 0.0
    first: Num = 0.0
    last: Num = 0.0
    launches: Num = 0.0
    end_launches: Num = 0.0
    messages: Num = 0.0
    ahead: Num = 0.0
    """Of `axis`, all axes together: sent in the forward pass."""
    hop: Num = 0.0
    """Of one message from a stage to the next."""
    axis: dict[str, Num] = field(default_factory=dict)
    step: dict[str, Num] = field(default_factory=dict)
    optimizer: Num = 0.0
    states: Num = 0.0
    """Of `optimizer`, states sent to the host and back."""

    @property
    def compute(self) -> Num:
        """Device work of the fullest stage's layers."""
        return self.product + self.attention + self.memory + self.recompute


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """Seconds of one optimizer step and where they go; the parts add up to the step."""

    step_s: Num
    micro_batch_s: Num
    """One micro-batch on the slowest stage, waiting for stragglers included."""
    parts: dict[str, Num]
    model_flops: Num
    """Of one step on one GPU, recompute left out."""
    hardware_flops: Num
    """The same with recompute and the flash backward's extra product."""


def tally(
    ops: list[Operation], pricer: Pricer | MeasuredPricer, before: Tally | None = None
) -> Tally:
    """Sum priced operations by where they run and what they are, to the sums of those `before`."""
    total = (
        Tally()
        if before is None
        else replace(before, axis=dict(before.axis), step=dict(before.step))
    )
    for op in ops:
        each = pricer.seconds(op)
        seconds = each * op.count
        if op.kind == "optimizer":
            total.optimizer = total.optimizer + seconds
        elif op.kind == "transfer":
            _add_transfer(total, op, seconds)
        elif op.kind == "collective" and op.stage in ("layer", "rank"):
            into = total.step if op.repeat == "step" else total.axis
            into[op.axis] = into.get(op.axis, 0.0) + seconds
            if op.repeat == "micro_batch":
                total.messages = total.messages + op.count * op.launches
                total.ahead = total.ahead + seconds * (op.phase == "forward")
                if op.axis == "pp":
                    total.hop = each * np.greater(op.count, 0)
        elif op.stage == "first":
            total.first = total.first + seconds
        elif op.stage == "last":
            total.last = total.last + seconds
            total.end_launches = total.end_launches + op.launches * op.count
        else:
            _add_layer(total, op, seconds, pricer.constants)
    return total


def _add_transfer(total: Tally, op: Operation, seconds: Num) -> None:
    if op.repeat == "step":
        total.optimizer = total.optimizer + seconds
        total.states = total.states + seconds
    else:
        total.axis["host"] = total.axis.get("host", 0.0) + seconds
        total.ahead = total.ahead + seconds / 2


def _add_layer(total: Tally, op: Operation, seconds: Num, c: Constants) -> None:
    more = c.expert_launches if op.expert else 1.0
    total.launches = total.launches + op.launches * op.count * more
    if op.phase == "recompute":
        total.recompute = total.recompute + seconds
        return
    if op.phase == "forward":
        total.forward = total.forward + seconds
    elif op.kind == "gemm":
        total.weight = total.weight + seconds / 2
    kind = {"gemm": "product", "attention": "attention"}.get(op.kind, "memory")
    setattr(total, kind, getattr(total, kind) + seconds)


def hide(message_s: Num, compute_s: Num, overlap: Num, c: Constants) -> Num:
    """Seconds a message adds when `overlap` is 1: what compute cannot cover, and interference.

    `max(0, t_m - w·t_c) + k·min(t_m, w·t_c)`; all of it when `overlap` is 0.
    """
    cover = c.compute_hides * compute_s
    left = np.maximum(message_s - cover, 0.0) + c.interference * np.minimum(message_s, cover)
    return overlap * left + (1 - overlap) * message_s


def host_and_device(device_s: Num, host_s: Num, blocking: Num) -> Num:
    """Time of a stage whose host prepares launches while the device works through them.

    A fourth-power mean, at least the larger of the two; their sum where every launch blocks.
    """
    ahead = np.sqrt(np.sqrt(device_s**4 + host_s**4))
    return blocking * (device_s + host_s) + (1 - blocking) * ahead


def exposed_messages(job: Job, total: Tally, c: Constants) -> dict[str, Num]:
    """Seconds per micro-batch that each axis adds on the fullest stage.

    Of messages between stages, those that a rank waits for while it sends them; the others are on
    their way while it computes (`pipeline_waiting`).
    """
    stack, axis = job.stack, total.axis
    tp_overlap = np.maximum(stack.tp_overlap, job.layout.tp_overlap)
    exposed = {
        "tp": axis.get("tp", 0.0) * (1 - c.tp_hidden * tp_overlap),
        "cp": axis.get("cp", 0.0) * (1 - c.tp_hidden * stack.tp_overlap),
        "ep": axis.get("ep", 0.0) * (1 - c.ep_hidden * stack.dp_overlap),
        "pp": axis.get("pp", 0.0) * (1 - stack.p2p_overlap),
    }
    shard = data_messages(total)
    exposed["dp"] = hide(shard, total.compute, stack.dp_overlap, c) if present(shard) else 0.0
    copied = axis.get("host", 0.0)
    exposed["offload"] = hide(copied, total.compute, 1.0, c) if present(copied) else 0.0
    return exposed


def data_messages(total: Tally) -> Num:
    """Seconds of the messages of weights and gradients in one micro-batch."""
    return total.axis.get("dp_shard", 0.0) + total.axis.get("dp_replicate", 0.0)


def pricer_of(job: Job, c: Constants) -> Pricer | MeasuredPricer:
    """Return what prices the job's operations: its machine's measured tables, or the constants."""
    return Pricer(job, c) if job.machine.measured is None else MeasuredPricer(job, c)


def step_time(job: Job, c: Constants, ops: list[Operation] | None = None) -> StepTime:
    """Return the seconds of one optimizer step and its parts, each a float or `[N]`.

    `ops` is the job's operation list, where the caller has it already.
    """
    pricer = pricer_of(job, c)
    total = tally(operations(job) if ops is None else ops, pricer)
    return combine(job, total, pricer.constants)


def step_seconds(job: Job, c: Constants) -> Num:
    """Return the seconds of `step_time`, where the parts are not asked for."""
    pricer = pricer_of(job, c)
    it = added(job, tally(operations(job), pricer), pricer.constants)
    return it.step * barrier_slowdown(job.layout.gpus)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """Seconds of one micro-batch on the pipeline's ranks, host and device together."""

    layers: Num
    """The fullest stage without the ends."""
    slowest: Num
    whole: Num
    """All stages one after the other."""
    waiting: Num
    """Of the fullest stage (of the model, where there is one), waiting for the host."""
    device: Num
    """Device time of the fullest stage, exposed messages included."""
    device_share: Num
    """Of that stage's time, what is the device's; the rest is the host's."""


def host_s(job: Job, total: Tally, c: Constants) -> tuple[Num, Num]:
    """Return the host's seconds per micro-batch for the fullest stage's layers, and for the head.

    One launch per kernel and message, and what a message takes beyond.
    """
    block = job.stack.launch_blocking
    launch_s = c.by_stack("host_launch_s", job.stack.code) + block * c.blocking_launch_s
    layers = total.launches * launch_s + total.messages * (c.host_message_s + launch_s)
    return layers, total.end_launches * launch_s


def layers_with_head(job: Job) -> Num:
    """Return layers on the rank with the head, all others being as full as can be.

    In a V it has the first stage and the last, the fullest and the least full of an even cut.
    """
    layout, count, full = job.layout, job.shape.layers, job.stage_layers
    line = np.clip(count - full * (layout.pp - 1), 0.0, full)
    each, more = np.divmod(count, 2 * layout.pp)
    return np.where(np.equal(ends_apart(layout.schedule), 0), 2 * each + np.minimum(more, 1), line)


def stages(job: Job, total: Tally, exposed_s: Num, c: Constants) -> Stages:
    """Return the times of a pipeline's ranks: `ceil` of the layers each, the rest on the last.

    The last has the head; in a V it is the first, and has the embedding too.
    """
    layout, layer_count, block = job.layout, job.shape.layers, job.stack.launch_blocking
    device = total.compute + exposed_s
    host, end_host = host_s(job, total, c)
    ends = total.first + total.last
    full = job.stage_layers
    left = layers_with_head(job) / full
    apart = ends_apart(layout.schedule)
    shared = 2 * np.minimum(apart, 1 - apart)
    one = np.equal(layout.pp, 1)
    layers = host_and_device(device, host, block)
    alone = host_and_device(device + ends, host + end_host, block)
    fore, aft = 1 - shared * (1 - left) / 2, left + shared * (1 - left) / 2
    head = 1 - shared / 2
    first = host_and_device(
        device * fore + apart * total.first + (1 - head) * total.last,
        host * fore + (1 - head) * end_host, block,
    )  # fmt: skip
    last = host_and_device(
        device * aft + (1 - apart) * total.first + head * total.last,
        host * aft + head * end_host, block,
    )  # fmt: skip
    middle = layers * np.maximum(layer_count / full - 1 - left, 0)
    waiting = np.where(one, alone - device - ends, layers - device)
    return Stages(
        layers=layers,
        slowest=np.where(one, alone, np.maximum(np.maximum(first, last), layers * (middle > 0))),
        whole=np.where(one, alone, middle + first + last),
        waiting=np.maximum(waiting, 0.0),
        device=device,
        device_share=_device_share(device, host, block),
    )


def _device_share(device_s: Num, host_s: Num, blocking: Num) -> Num:
    """Share of `host_and_device` that is the device's: `M = D·(D/M)^3 + H·(H/M)^3`."""
    power = device_s**4 / (device_s**4 + host_s**4)
    return blocking * device_s / (device_s + host_s) + (1 - blocking) * power


def pipeline_waiting(job: Job, total: Tally, at: Stages) -> Waiting:
    """Return what the pipeline's schedule leaves the slowest rank to wait for.

    The other stages' mean is `(whole - slowest)/(pp - 1)`. Forward and weight gradients have their
    device time in it and a third of the host's; recompute delays the input gradients, exposed
    messages the pass that sends them.
    """
    layout = job.layout
    mean_other = (at.whole - at.slowest) / np.maximum(layout.pp - 1, 1.0)

    def part(device_s: Num) -> Num:
        return mean_other * (at.device_share * device_s / at.device + (1 - at.device_share) / 3)

    sent = sum(total.axis.values(), start=np.asarray(0.0))
    early = np.where(np.greater(sent, 0), total.ahead / np.where(sent > 0, sent, 1.0), 0.0)
    forward = part(total.forward + early * (at.device - total.compute))
    weight = part(total.weight)
    return waiting(Pipeline(
        code=layout.schedule, pp=layout.pp, vpp=layout.vpp, micro_batches=job.micro_batches,
        forward_s=forward, backward_s=mean_other - forward - weight, weight_s=weight,
        longer_s=np.maximum(at.slowest - mean_other, 0.0),
        hop_s=job.stack.p2p_overlap * total.hop,
    ))  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Added:
    """What a step is made of; seconds, floats or `[N]`, waiting for stragglers left out."""

    exposed: dict[str, Num]
    """Of each axis per micro-batch, on the fullest stage."""
    at: Stages
    waits: Waiting
    data: Num
    """Sent once per step and not hidden."""
    once: Num
    """The optimizer and the host's work per step."""
    step: Num


def added(job: Job, total: Tally, c: Constants) -> Added:
    """Add a tally up: `m·slowest + waiting + data + once`, m micro-batches on the slowest stage.

    `waiting` is the bubble and messages between stages, `data` what is sent once per step and not
    hidden, `once` the optimizer and the host's work per step.
    """
    exposed = exposed_messages(job, total, c)
    at = stages(job, total, sum(exposed.values()), c)
    waits = pipeline_waiting(job, total, at)
    data = sum(total.step.values(), start=np.asarray(0.0))
    data_s = hide(data, at.slowest, job.stack.dp_overlap, c)
    once = total.optimizer + c.host_step_s
    step = job.micro_batches * at.slowest + waits.bubble_s + waits.messages_s + data_s + once
    return Added(exposed=exposed, at=at, waits=waits, data=data_s, once=once, step=step)


def combine(job: Job, total: Tally, c: Constants) -> StepTime:
    """Turn a tally into a step and its parts: what is added up, times the stragglers' slowdown."""
    it = added(job, total, c)
    m, at = job.micro_batches, it.at
    slow = barrier_slowdown(job.layout.gpus)
    parts = _parts(job, total, it.exposed, it.waits.messages_s) | {
        "host": m * at.waiting,
        "bubble": it.waits.bubble_s,
        "dp": it.data + m * it.exposed["dp"],
        "optimizer": it.once,
        "stragglers": (slow - 1) * it.step,
        "uneven stages": m * np.where(np.equal(job.layout.pp, 1), 0.0, at.slowest - at.layers),
    }
    model, hardware = step_flops(job)
    return StepTime(
        step_s=it.step * slow, micro_batch_s=at.slowest * slow, parts=parts, model_flops=model,
        hardware_flops=hardware,
    )  # fmt: skip


def _parts(job: Job, total: Tally, exposed: dict[str, Num], sent: Num) -> dict[str, Num]:
    m = job.micro_batches
    one = np.equal(job.layout.pp, 1)
    ends = np.where(one, total.first + total.last, 0.0)
    return {
        "products": m * total.product,
        "attention": m * total.attention,
        "memory passes": m * total.memory,
        "embedding, head, loss": m * ends,
        "recompute": m * total.recompute,
        "tp": m * exposed["tp"],
        "cp": m * exposed["cp"],
        "ep": m * exposed["ep"],
        "pp": m * exposed["pp"] + sent,
        "offload": m * exposed["offload"],
    }


def step_flops(job: Job) -> tuple[Num, Num]:
    """Return (model, hardware) FLOPs of one step per GPU.

    Model FLOPs are three times the causal forward. Hardware adds what recompute runs again and the
    flash backward's fifth product (2.5 forward against 2).
    """
    s = job.shape
    tokens = job.global_batch * job.seq_len
    forward = forward_flops_per_token(s, job.context_len, job.mtp)
    core = s.attention * 2 * core_width(s) * mean_context(s, job.context_len)
    head = 2 * s.vocab * s.hidden * (1 + job.mtp)
    selective = np.equal(job.layout.recompute, SELECTIVE)
    some = np.where(job.by_operation, 0.5 * (forward - head - core), core)
    again = job.redo_layer * (forward - head) + selective * some
    extra = again + 0.5 * core * job.stack.flash
    gpus = job.layout.gpus
    return 3 * forward * tokens / gpus, (3 * forward + extra) * tokens / gpus
