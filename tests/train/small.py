"""A small model and the ways to spread it, for tests of what looks at parameters alone.

Sizes are odd, so that shards are uneven and some ranks hold no rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional


class Layer(nn.Module):
    """A gated step and three experts that all see every row."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)
        self.narrow = nn.Linear(6, 1)
        self.experts = nn.Parameter(torch.empty(3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        experts = self.experts.full_tensor() if isinstance(self.experts, DTensor) else self.experts
        mixed = torch.einsum("noi,bi->bo", experts, y)
        gate = torch.sigmoid(self.narrow(y))
        out: Tensor = x + self.down(functional.silu(self.up(y))) * gate + mixed
        return out


class Small(nn.Module):
    """Tokens to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.layers = nn.ModuleDict({"0": Layer(), "1": Layer()})
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for layer in self.layers.values():
            x = layer(x)
        out: Tensor = self.head(self.norm(x))
        return out


def small() -> Small:
    """Return the model with the same weights every time."""
    torch.manual_seed(5)
    model = Small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.5)
    return model


def backward(model: nn.Module, step: int) -> float:
    """Run one step of made-up data, the same on every rank; return the loss."""
    draw = torch.Generator().manual_seed(step)
    tokens, targets = torch.randint(0, 11, (2, 16), generator=draw)
    loss = functional.cross_entropy(model(tokens), targets)
    loss.backward()
    return loss.item()


def _fsdp(model: Small, axes: dict[str, int]) -> None:
    mesh = init_device_mesh("cpu", tuple(axes.values()), mesh_dim_names=tuple(axes))
    for layer in model.layers.values():
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _tp(model: Small, mesh) -> None:
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    for layer in model.layers.values():
        parallelize_module(layer, mesh, plan)


def fsdp(ranks: int) -> Callable[[Small], None]:
    return lambda model: _fsdp(model, {"dp_shard": ranks})


def hsdp(model: Small) -> None:
    _fsdp(model, {"dp_replicate": 2, "dp_shard": 2})


def tp(model: Small) -> None:
    _tp(model, init_device_mesh("cpu", (2,), mesh_dim_names=("tp",)))


def fsdp_tp(model: Small) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp_shard", "tp"))
    _tp(model, mesh["tp"])
    for layer in model.layers.values():
        fully_shard(layer, mesh=mesh["dp_shard"])
    fully_shard(model, mesh=mesh["dp_shard"])


def experts_cut(model: Small) -> None:
    """Spread the experts alone, as expert parallelism does."""
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("ep",))
    for layer in model.layers.values():
        assert isinstance(layer, Layer)
        layer.experts = nn.Parameter(distribute_tensor(layer.experts, mesh, [Shard(0)]))


def experts_cut_through(model: Small) -> None:
    """Spread the experts, and cut each one's rows, as FSDP does with fewer experts than ranks."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("efsdp", "ep"))
    for layer in model.layers.values():
        assert isinstance(layer, Layer)
        cut = distribute_tensor(layer.experts, mesh, [Shard(1), Shard(0)])
        layer.experts = nn.Parameter(cut)


SPREADS: dict[str, tuple[int, Callable[[Small], None]]] = {
    "fsdp2": (2, fsdp(2)),
    "fsdp4": (4, fsdp(4)),
    "hsdp2x2": (4, hsdp),
    "tp2": (2, tp),
    "fsdp2xtp2": (4, fsdp_tp),
    "ep2": (2, experts_cut),
    "ep2xfsdp2": (4, experts_cut_through),
}
"""Name -> ranks, and what spreads the model over them."""


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters by name."""
    return dict(model.named_parameters())


def whole(tensor: Tensor | None) -> Tensor:
    """Return a tensor gathered from all ranks."""
    assert tensor is not None
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().clone()
