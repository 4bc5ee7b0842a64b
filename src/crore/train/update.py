"""The end of a step on one rank: what all ranks know together, then the update.

The loop and the rehearsal call the same functions; only what a number says is the loop's business.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from crore.train.clip import norm_share, scale_
from crore.train.engine import Engine
from crore.train.optim import Optimizer


def shared_sums(engine: Engine, named: Mapping[str, Tensor], asked: float) -> Tensor:
    """Return squared gradient norm, nats and `asked`, each summed over the world, in one message.

    A float64 vector [3] on the engine's device.
    """
    split = engine.world.split
    stage_ranks = split.ranks // split.pp
    more = {name: stage_ranks * held for name, held in engine.copies().items()}
    share = norm_share(named, stage_ranks, more)
    packed = torch.stack([share, engine.nats().to(share), share.new_tensor(asked)])
    if dist.is_initialized():
        dist.all_reduce(packed)
    return packed


def update(
    engine: Engine, named: Mapping[str, Tensor], optimizer: Optimizer, *,
    norm: float, clip: float, lr_factor: float,
) -> None:  # fmt: skip
    """Clip gradients whose global norm is `norm`, update the weights, move the routers' biases."""
    scale_(named, norm, clip)
    optimizer.step(lr_factor)
    engine.rebalance()
