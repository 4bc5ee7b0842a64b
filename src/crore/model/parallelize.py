"""A layout becomes a sharded model: stages, TP, experts, CP, recompute, compile, FSDP, weights.

The order matters: each step wraps or replaces what the one before it left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from crore.catalog.types import ModelSpec
from crore.model.attention import Core
from crore.model.context import apply_ring, apply_ulysses
from crore.model.decoder import Decoder, build_decoder
from crore.model.expert import spread_experts
from crore.model.float8 import apply_float8
from crore.model.initialise import initialise
from crore.model.mesh import World
from crore.model.mixture import mixtures
from crore.model.recompute import apply_recompute
from crore.model.shard import apply_data_parallel
from crore.model.stages import cut, stages_of
from crore.model.tensor import apply_tensor_parallel


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOptions:
    """What a plan does not say about how a model is built."""

    seed: int | None = 0
    """Of the weights; None leaves them unset, where nobody will look at their values."""
    compiled: bool = False
    """Each block through torch.compile."""
    mtp: bool = False
    """Multi-token-prediction modules, where the model has them."""
    ring: bool = False
    """Context parallelism in a ring (CUDA alone) instead of all-to-all."""
    allocation: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Entered while weights get their memory; a rehearsal makes fake tensors in it."""


def build_parts(
    spec: ModelSpec, seq_len: int, world: World, options: BuildOptions
) -> list[Decoder]:
    """Return this rank's parts of a model, one per pipeline chunk, sharded and with weights set."""
    parts = []
    for stage in stages_of(world):
        part = cut(build_decoder(spec, seq_len, mtp=options.mtp), world.split.stages, stage)
        parallelize(part, world, options)
        with options.allocation():
            materialise(part, world, options.seed)
        parts.append(part)
    return parts


def parallelize(part: Decoder, world: World, options: BuildOptions) -> None:
    """Apply every axis of the world's split to a part on the meta device."""
    split = world.split
    if world.dense is not None and split.tp > 1:
        apply_tensor_parallel(part, world.dense["tp"], sequence=split.sequence_parallel)
    if world.sparse is not None and split.ep > 1:
        for mixture in mixtures(part):
            spread_experts(mixture.experts, world.sparse["ep"])
    apply_context_parallel(part, world, ring=options.ring)
    if split.precision == "fp8":
        apply_float8(part)
    apply_recompute(part, split)
    if options.compiled:
        for block in part.layers.values():
            block.compile()
    if world.dense is not None:
        apply_data_parallel(part, world)


def apply_context_parallel(part: Decoder, world: World, *, ring: bool) -> None:
    """Share the attention cores out, and say which heads' cores run on this rank."""
    split = world.split
    heads = part.spec.heads // split.tp
    first = world.tp_rank * heads
    if world.context is not None and not ring:
        heads //= split.cp
        first += world.cp_rank * heads
    part.core_heads = slice(first, first + heads)
    if world.context is None:
        return
    for module in part.modules():
        if isinstance(module, Core) and ring:
            apply_ring(module, world.context["cp"])
        elif isinstance(module, Core):
            apply_ulysses(module, world.context.get_group("cp"))


def materialise(part: Decoder, world: World, seed: int | None) -> None:
    """Give a part memory on its device, its weights from the seed, and its positions."""
    part.to_empty(device=world.device)
    part.tie()
    if seed is not None:
        initialise(part, seed)
    length = part.seq_len // world.split.cp
    first = world.cp_rank * length
    part.reset_positions(torch.arange(first, first + length, device=world.device))


@torch.no_grad()
def finish_gradients(parameters: Iterable[Tensor]) -> None:
    """Give every gradient the placements of its parameter: sum what is partial over ranks.

    FSDP does so for what it wraps; without it a replicated weight under sequence parallelism is
    left with the sum over its own tokens.
    """
    for parameter in parameters:
        grad = parameter.grad
        if not isinstance(grad, DTensor) or not isinstance(parameter, DTensor):
            continue
        if grad.placements != parameter.placements:
            parameter.grad = grad.redistribute(placements=parameter.placements)
