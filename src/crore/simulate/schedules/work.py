"""A job's operation list as what each chunk of a pipeline does: its passes, messages and waits.

The planner adds the same seconds up for the fullest stage and the two ends (`cost.step_time`); here
every rank has the layers it is given, cut as evenly as can be, the fuller stages first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crore.cost import Job, Operation
from crore.cost.constants import Constants
from crore.cost.measured import MeasuredPricer
from crore.cost.price import Pricer
from crore.cost.schedules import SCHEDULE_NAMES, chunks_per_rank
from crore.cost.step_time import (
    Tally,
    data_messages,
    exposed_messages,
    host_and_device,
    host_s,
    tally,
)
from crore.simulate.schedules.events import Floats, StageTimes
from crore.simulate.schedules.passes import ways

Stream = str
"""What runs beside compute: a mesh axis (tp, cp, ep, dp) or copies to the host."""
STREAM_OF: Mapping[str, Stream] = {
    "tp": "tp", "cp": "cp", "ep": "ep", "dp_shard": "dp", "dp_replicate": "dp", "host": "offload",
}  # fmt: skip
PASSES = ("F", "I", "W")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """Messages of one stream in one pass of a chunk that has all layers of the fullest rank."""

    forward_s: float
    backward_s: float
    """Recompute included."""
    shown: float
    """Share that compute waits for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """One micro-batch on every chunk of a pipeline; arrays [ranks, chunks]."""

    schedule: str
    times: StageTimes
    layers: NDArray[np.intp]
    stage: NDArray[np.intp]
    """Number of the pipeline stage that a chunk is."""
    fullness: Floats
    """A chunk's layers over those of the fullest rank."""
    messages: Mapping[Stream, Message]
    send_s: float
    """Of one activation from a stage to the next."""
    send_waits: bool
    """The sender waits for it, so that the pass that sends is as much longer."""

    @property
    def rank_s(self) -> Floats:
        """[ranks] seconds of one micro-batch on each, messages that are only received apart.

        Of DualPipe, the mean of its two directions.
        """
        each = self.times.forward_s + self.times.input_s + self.times.weight_s
        total: Floats = each.sum(axis=1) / (2 if self.schedule == "dualpipe" else 1)
        return total


def work_of(job: Job, ops: list[Operation], pricer: Pricer | MeasuredPricer) -> Work:
    """Return what one micro-batch of one job takes on every chunk of its pipeline.

    The job's fields are single numbers. Forward messages wait in the forward pass and backward ones
    in the input gradient; the host's share lengthens a rank's passes alike.
    """
    c = pricer.constants
    total = tally(ops, pricer)
    schedule = SCHEDULE_NAMES[int(float(job.layout.schedule))]
    stage, layers = placed(job, schedule)
    fullness = layers / float(job.stage_layers)
    sums = _sums(ops, pricer)
    messages = _messages(job, total, sums, c)
    passes = {kind: fullness * float(sums["layer", kind]) for kind in PASSES}
    for it in messages.values():
        passes["F"] = passes["F"] + fullness * it.forward_s * it.shown
        passes["I"] = passes["I"] + fullness * it.backward_s * it.shown
    send_s = float(total.hop)
    waits = not float(job.stack.p2p_overlap)
    passes["F"], passes["I"] = (passes[kind] + waits * send_s for kind in ("F", "I"))
    ends = {"first": stage == 0, "last": stage == stage.max()}
    for end, here in ends.items():
        for kind in PASSES:
            passes[kind] = passes[kind] + here * float(sums[end, kind])
    device_s = passes["F"] + passes["I"] + passes["W"]
    slower = _host_factor(job, total, c, device_s, fullness, ends["last"])
    transfer_s = np.full(stage.shape, 0.0 if waits else send_s)
    return Work(
        schedule=schedule, stage=stage, layers=layers, fullness=fullness, messages=messages,
        send_s=send_s, send_waits=waits,
        times=StageTimes(
            forward_s=passes["F"] * slower, input_s=passes["I"] * slower,
            weight_s=passes["W"] * slower, transfer_s=transfer_s,
        ),
    )  # fmt: skip


def placed(job: Job, schedule: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the stage and the layers of every chunk, [ranks, chunks]."""
    ranks = int(float(job.layout.pp))
    chunks = int(float(chunks_per_rank(job.layout.schedule, job.layout.vpp))) if ranks > 1 else 1
    stage = np.zeros((ranks, chunks), dtype=np.intp)
    for way in ways(schedule, ranks, chunks) if ranks > 1 else (((0, 0),),):
        for number, place in enumerate(way):
            stage[place] = number
    stages = int(stage.max()) + 1
    slots = 2 * int(float(job.layout.end_slots)) if stages > 1 else 0
    each, more = divmod(int(float(job.shape.layers)) + slots, stages)
    layers = each + (np.arange(stages) < more)
    layers[[0, -1]] -= slots // 2
    return stage, layers[stage]


def _sums(
    ops: list[Operation], pricer: Pricer | MeasuredPricer
) -> defaultdict[tuple[str, str], float]:
    """Sum a micro-batch's seconds by (layer, first or last; F, I or W), messages by (axis; F or I).

    Half of a backward product is its weight gradient, as the planner has it; the same halves of the
    head. What a recompute sends waits in the backward pass.
    """
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    for op in ops:
        if op.repeat != "micro_batch" or op.axis == "pp":
            continue
        seconds = float(pricer.seconds(op) * op.count)
        back = "F" if op.phase == "forward" else "I"
        if op.kind == "transfer":  # out in the forward pass, and back
            sums["host", "F"] += seconds / 2
            sums["host", "I"] += seconds / 2
        elif op.kind == "collective" and op.stage in ("layer", "rank"):
            sums[op.axis, back] += seconds
        elif op.kind == "gemm" and op.phase == "backward":
            sums[op.stage, "I"] += seconds / 2
            sums[op.stage, "W"] += seconds / 2
        else:
            sums[op.stage, back] += seconds
    return sums


def _messages(
    job: Job, total: Tally, sums: Mapping[tuple[str, str], float], c: Constants
) -> dict[Stream, Message]:
    """Return the streams that carry anything, and how much of each the planner leaves visible."""
    shown_s = exposed_messages(job, total, c)
    whole_s = {axis: total.axis.get(axis, 0.0) for axis in ("tp", "cp", "ep")}
    whole_s |= {"dp": data_messages(total), "offload": total.axis.get("host", 0.0)}
    found: dict[Stream, Message] = {}
    for stream, seconds in whole_s.items():
        if float(seconds) > 0:
            axes = [axis for axis, it in STREAM_OF.items() if it == stream]
            found[stream] = Message(
                forward_s=sum(sums.get((axis, "F"), 0.0) for axis in axes),
                backward_s=sum(sums.get((axis, "I"), 0.0) for axis in axes),
                shown=float(shown_s[stream]) / float(seconds),
            )
    return found


def _host_factor(
    job: Job, total: Tally, c: Constants, device_s: Floats, fullness: Floats,
    last: NDArray[np.bool_],
) -> Floats:  # fmt: skip
    """Return by how much the host lengthens the passes of each rank, [ranks, 1]."""
    layers_s, head_s = (float(x) for x in host_s(job, total, c))
    host = (fullness * layers_s + last * head_s).sum(axis=1)
    device = device_s.sum(axis=1)
    both = host_and_device(device, host, job.stack.launch_blocking)
    factor: Floats = np.asarray(both / device)[:, None]
    return factor
