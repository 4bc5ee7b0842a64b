"""Data parallelism with FSDP2: what is sharded, when it is gathered, how gradients are summed."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from crore.model.decoder import Decoder
from crore.model.mesh import World
from crore.model.mixture import mixtures
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
                mixture.experts, mesh=mesh, mp_policy=policy, reshard_after_forward=gather_again
            )
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


def _data_mesh(mesh: DeviceMesh | None, axis: str, split: Split) -> DeviceMesh:
    assert mesh is not None
    return mesh["dp_replicate", axis] if split.dp_replicate > 1 else mesh[axis]
