"""A small model and its optimizer's state under every layout, with values anyone can recompute."""

from __future__ import annotations

import zlib

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from crore.train.checkpoint import Checkpoints

LAYERS, WIDTH, INNER = 4, 6, 10
"""Sizes that 4 and 8 ranks do not divide."""
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Block(nn.Module):
    """Two matrices, a bias and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(WIDTH, INNER)
        self.down = nn.Linear(INNER, WIDTH, bias=False)
        self.norm = nn.LayerNorm(WIDTH)


def shapes() -> dict[str, list[int]]:
    """Return the shape of every tensor of the whole state."""
    block = {n: list(p.shape) for n, p in Block().named_parameters()}
    return {
        name: [] if name.endswith(".step") else shape
        for layer in range(LAYERS)
        for part, shape in block.items()
        for name in names(f"{layer}.{part}")
    }


def names(parameter: str) -> list[str]:
    """Return the names of a parameter and of its optimizer state."""
    return [f"model.{parameter}", *(f"optim.{parameter}.{moment}" for moment in MOMENTS)]


def expected(name: str, step: int) -> Tensor:
    """Return what a whole tensor holds after `step` steps."""
    seeded = torch.Generator().manual_seed(zlib.crc32(f"{name} {step}".encode()))
    return torch.randn(shapes()[name], generator=seeded)


def build(layout: str) -> dict[str, Tensor]:
    """Return this rank's share of the state, all zeros."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    world = dist.get_world_size() if dist.is_initialized() else 1
    stages = world if layout == "pp" else 2 if layout == "pp_fsdp" else 1
    stage = rank * stages // world
    mine = [layer for layer in range(LAYERS) if layer * stages // LAYERS == stage]
    state: dict[str, Tensor] = {}
    mesh = mesh_of(layout, world)
    for layer in mine:
        block = Block()
        apply(layout, block, mesh)
        state |= state_of(block, str(layer))
    for tensor in state.values():
        (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach().zero_()
    return state


def mesh_of(layout: str, world: int) -> DeviceMesh | None:
    """Return the mesh of this rank's stage."""
    if layout in ("one", "pp"):
        return None
    if layout in ("fsdp_tp", "hsdp", "pp_fsdp"):
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("a", "b"))
        return mesh["b"] if layout == "pp_fsdp" else mesh
    return init_device_mesh("cpu", (world,), mesh_dim_names=("a",))


def apply(layout: str, block: Block, mesh: DeviceMesh | None) -> None:
    """Shard a block in place."""
    if mesh is None:
        return
    if "tp" in layout:
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        parallelize_module(block, mesh["b"] if layout == "fsdp_tp" else mesh, plan)
    if layout == "tp":  # what is left is the same on every rank, as DTensor
        for name, weight in block.norm.named_parameters():
            copies = nn.Parameter(distribute_tensor(weight.detach(), mesh, [Replicate()]))
            block.norm.register_parameter(name, copies)
    if "fsdp" in layout or layout == "hsdp":
        fully_shard(block, mesh=mesh["a"] if layout == "fsdp_tp" else mesh)


def state_of(block: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a block's parameters and the state AdamW keeps for them."""
    optimizer = torch.optim.AdamW(block.parameters(), fused=True)
    for parameter in block.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state: dict[str, Tensor] = {}
    for name, parameter in block.named_parameters():
        values = [parameter, *(optimizer.state[parameter][moment] for moment in MOMENTS)]
        state |= dict(zip(names(f"{prefix}.{name}"), values, strict=True))
    return state


def whole(tensor: Tensor) -> Tensor:
    """Return the unsharded values."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def differing(state: dict[str, Tensor], step: int) -> list[str]:
    """Return the names whose values are not, bit for bit, those after `step` steps."""
    return [n for n, t in state.items() if not torch.equal(whole(t.detach()), expected(n, step))]


def open_checkpoints(folder, keep: int = 3) -> Checkpoints:
    """Open a folder with a group of its own where there are ranks."""
    group = dist.new_group(backend="gloo") if dist.is_initialized() else None
    return Checkpoints(folder, keep=keep, group=group)
