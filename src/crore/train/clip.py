"""The true norm of a gradient that lies in parts on many ranks: every element once."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import get_total_norm

from crore.model.parallelize import finish_gradients
from crore.train.local import local_part, shards


@torch.no_grad()
def norm_share(
    named: Mapping[str, Tensor], ranks: int, more_ranks: Mapping[str, int] | None = None
) -> Tensor:
    """Return this rank's share of the squared gradient norm, a float64 scalar on its device.

    The sum over the world of all shares is the squared norm: pack it with other numbers into one
    all-reduce. `ranks` hold the parameters in parts or whole (the world over its pipeline stages);
    `more_ranks` says how many do for those that further stages hold too (a tied head). So a part
    lies on `ranks` / (its parameter's shards) ranks, and each gives that fraction of its square.
    """
    finish_gradients(named.values())
    by_copies: dict[float, list[Tensor]] = defaultdict(list)
    for name, parameter in named.items():
        if parameter.grad is not None and (part := local_part(parameter.grad)).numel():
            holders = (more_ranks or {}).get(name, ranks)
            by_copies[holders / shards(parameter)].append(part)
    squares = [_norm(parts).square() / copies for copies, parts in by_copies.items()]
    return torch.stack(squares).sum() if squares else _zero(named)


def _norm(parts: list[Tensor]) -> Tensor:
    return get_total_norm(parts).to(torch.float64)


def _zero(named: Mapping[str, Tensor]) -> Tensor:
    device = next((p.device for p in named.values()), torch.device("cpu"))
    return torch.zeros((), dtype=torch.float64, device=device)


def global_norm(share: Tensor, group: dist.ProcessGroup | None = None) -> float:
    """Return the norm from every rank's share, with an all-reduce of its own where ranks exist."""
    if dist.is_initialized():
        dist.all_reduce(share, group=group)
    return math.sqrt(float(share))


@torch.no_grad()
def scale_(named: Mapping[str, Tensor], norm: float, max_norm: float) -> float:
    """Scale all gradients so that their global `norm` is at most `max_norm`; return the factor."""
    factor = min(1.0, max_norm / (norm + 1e-6))  # as torch's clip_grad_norm_
    if factor < 1:
        for part in _parts(named):
            part.mul_(factor)
    return factor


def _parts(named: Mapping[str, Tensor]) -> Iterator[Tensor]:
    return (local_part(p.grad) for p in named.values() if p.grad is not None)
