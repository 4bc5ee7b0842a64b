"""Data parallelism with FSDP2: what is sharded, when it is gathered, how gradients are summed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from crore.model.decoder import Decoder
from crore.model.mesh import World
from crore.model.mixture import Experts, mixtures
from crore.model.split import Split, needs_wrapping


def policy_of(precision: str) -> MixedPrecisionPolicy:
    """Return fp32 everywhere, or weights and activations in bf16 with fp32 gradient sums."""
    if precision == "fp32":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def apply_data_parallel(model: Decoder, world: World) -> None:
    """Shard a part of a model block by block; gradients are sums, so the loss sets the mean."""
    split, mixed = world.split, mixtures(model)
    plain, expert = needs_wrapping(split, experts=bool(mixed))
    policy, gather_again = policy_of(split.precision), split.zero == 3
    if expert:
        mesh = _data_mesh(world.sparse, "efsdp", split)
        for mixture in mixed:
            fully_shard(
                mixture.experts, mesh=mesh, mp_policy=policy, reshard_after_forward=gather_again,
                shard_placement_fn=expert_cut(mixture.experts, split.expert_fsdp),
            )  # fmt: skip
    if plain:
        mesh = _data_mesh(world.dense, "fsdp", split)
        ignored = set() if expert else {p for m in mixed for p in m.experts.parameters()}
        parts: list[nn.Module | list[nn.Module]] = list(model.layers.values())
        parts += list(model.prediction)
        if not model.tied:
            parts += [model.embedding] if model.embedding is not None else []
            parts += [[model.norm, model.head]] if model.norm and model.head else []
        for part in parts:
            last = isinstance(part, list)
            fully_shard(
                part, mesh=mesh, mp_policy=policy, ignored_params=ignored,
                reshard_after_forward=gather_again and not last,
            )  # fmt: skip
        fully_shard(
            model, mesh=mesh, mp_policy=policy, ignored_params=ignored,
            reshard_after_forward=False,
        )  # fmt: skip
    # What leaves a tensor-parallel module is a view; torch warns of in-place changes, none is made.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)


def expert_cut(experts: Experts, ranks: int) -> Callable[[nn.Parameter], Shard]:
    """Return how stacked experts are cut over ranks: between experts, where those divide.

    Else through each expert, where its widths divide: FSDP would fill the experts up to the ranks,
    send the filling too, and leave what it fills without a part.
    """
    shapes = [part_of(parameter).shape for parameter in experts.parameters()]
    between = all(shape[0] % ranks == 0 for shape in shapes)
    through = all(shape[1] % ranks == 0 for shape in shapes)
    return partial(_cut_along, 0 if between or not through else 1)


def _cut_along(dim: int, parameter: nn.Parameter) -> Shard:
    del parameter
    return Shard(dim)


def part_of(parameter: nn.Parameter) -> torch.Tensor:
    """Return what expert parallelism left of a parameter on this rank."""
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _data_mesh(mesh: DeviceMesh | None, axis: str, split: Split) -> DeviceMesh:
    assert mesh is not None
    return mesh["dp_replicate", axis] if split.dp_replicate > 1 else mesh[axis]
