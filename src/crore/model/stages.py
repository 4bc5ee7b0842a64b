"""Pipeline stages: the parts of a decoder on this rank, and the schedule that runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleZBVZeroBubble,
)
from torch.distributed.pipelining.schedules import PipelineScheduleMulti, PipelineScheduleSingle

from crore.model.decoder import Decoder
from crore.model.mesh import World
from crore.model.private import all_stages_active
from crore.model.split import layers_of_stage, stage_of_chunk

Schedule = PipelineScheduleSingle | PipelineScheduleMulti
_SINGLE: dict[str, type[PipelineScheduleSingle]] = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}
_MULTI: dict[str, type[PipelineScheduleMulti]] = {
    "interleaved": ScheduleInterleaved1F1B,
    "zb-v": ScheduleZBVZeroBubble,
}


def cut(model: Decoder, stages: int, stage: int) -> Decoder:
    """Keep what one stage holds of a whole model; layers keep their names."""
    kept = layers_of_stage(model.spec.layers, stages, stage)
    for name in list(model.layers):
        if int(name) not in kept:
            del model.layers[name]
    if stage > 0:
        model.embedding = model.positions = None
    if stage < stages - 1:
        model.norm = model.head = None
        model.prediction = nn.ModuleList()
    return model


def stages_of(world: World) -> list[int]:
    """Return the stages of this rank, in the order of its chunks."""
    split = world.split
    return [stage_of_chunk(split, world.pp_rank, chunk) for chunk in range(split.chunks)]


def make_schedule(
    parts: list[Decoder], world: World, *, micro_batches: int, loss: Callable[..., Tensor]
) -> Schedule:
    """Return the schedule over this rank's parts; message shapes are told, not found out."""
    split = world.split
    assert world.dense is not None
    group, name = world.dense.get_group("pp"), split.schedule
    stages = [
        PipelineStage(
            part, index, split.stages, world.device, group=group,
            input_args=_shape_in(part, world), output_args=_shape_out(part, world),
        )
        for part, index in zip(parts, stages_of(world), strict=True)
    ]  # fmt: skip
    # The loss is a sum already scaled by the batch, so the schedule must not scale again.
    settings: dict[str, Any] = {
        "n_microbatches": micro_batches, "loss_fn": loss, "scale_grads": False,
    }  # fmt: skip
    if name in _SINGLE:
        return _SINGLE[name](stages[0], **settings)
    with all_stages_active(split.chunks):
        return _MULTI[name](list(stages), **settings)


def _shape_in(part: Decoder, world: World) -> Tensor:
    split = world.split
    tokens = (split.micro_batch, part.seq_len // split.cp)
    if part.embedding is not None:
        return torch.empty(tokens, dtype=torch.int64, device="meta")
    return _hidden(part, world)


def _hidden(part: Decoder, world: World) -> Tensor:
    split = world.split
    cut_by = split.tp if split.sequence_parallel else 1
    shape = (split.micro_batch, part.seq_len // split.cp // cut_by, part.spec.hidden)
    dtype = torch.float32 if split.precision == "fp32" else torch.bfloat16
    return torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)


def _shape_out(part: Decoder, world: World) -> Tensor:
    split = world.split
    if part.head is None:
        return _hidden(part, world)
    shape = (split.micro_batch, part.seq_len // split.cp, part.spec.vocab // split.tp)
    dtype = torch.float32 if split.precision == "fp32" else torch.bfloat16
    return torch.empty(shape, dtype=dtype, device="meta", requires_grad=True)
