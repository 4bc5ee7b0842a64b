"""The end of a step on one rank: what all ranks know together, then the update.

The loop and the rehearsal call the same functions; only what a number says is the loop's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from crore.train.clip import norm_share, scale_
from crore.train.engine import Engine
from crore.train.local import local_part
from crore.train.optim import Optimizer


def shared_sums(engine: Engine, named: Mapping[str, Tensor], *more: float) -> Tensor:
    """Return squared gradient norm, nats and `more`, each summed over the world, in one message.

    A float64 vector [2 + len(more)] on the engine's device.
    """
    split = engine.world.split
    stage_ranks = split.ranks // split.pp
    copies = {name: stage_ranks * held for name, held in engine.copies().items()}
    share = norm_share(named, stage_ranks, copies)
    packed = torch.stack([share, engine.nats().to(share), *map(share.new_tensor, more)])
    if dist.is_initialized():
        dist.all_reduce(packed)
    return packed


@torch.no_grad()
def add_gradients(named: Mapping[str, Tensor], add: Callable[[Sequence[Tensor]], None]) -> None:
    """Have `add` sum this rank's gradients over worlds, in place; a weight without one gives 0."""
    for parameter in named.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    add([local_part(p.grad) for p in named.values() if p.grad is not None])


def update(
    engine: Engine, named: Mapping[str, Tensor], optimizer: Optimizer, *,
    norm: float, clip: float, lr_factor: float,
) -> None:  # fmt: skip
    """Clip gradients whose global norm is `norm`, update the weights, move the routers' biases."""
    scale_(named, norm, clip)
    optimizer.step(lr_factor)
    engine.rebalance()
