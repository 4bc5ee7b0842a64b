"""What processes send each other: seconds of every collective by the size of its buffer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from crore.catalog.calibration import MESSAGES, Curve
from crore.train.calibrate.clock import lower_quartile

BUFFER_BYTES: Final = {
    "cpu": tuple(2**e for e in range(12, 26, 3)),
    "cuda": tuple(2**e for e in range(12, 30, 3)),
}
"""Full buffers of one rank: 4 KiB to 16 MiB, on cards to 128 MiB."""
SAMPLES: Final = (20, 20, 15, 10, 5, 3)
"""Repetitions by size: every rank takes the same number, or one would wait for ever."""
WARM_UP: Final = 2


def measure_messages(device: str, settle: Callable[[], None]) -> dict[str, Curve]:
    """Return seconds of each collective over the default process group."""
    made = {}
    sizes = BUFFER_BYTES[device]
    for name in MESSAGES:
        seconds = []
        for size, samples in zip(sizes, SAMPLES, strict=False):
            seconds.append(together_s(_call(name, size, device), samples, settle))
        made[name] = Curve(size=tuple(map(float, sizes)), seconds=tuple(seconds))
    return made


def together_s(call: Callable[[], object], samples: int, settle: Callable[[], None]) -> float:
    """Return the lower quartile of calls that all ranks begin together, the first left out.

    Every rank takes the same number, or one would wait for ever.
    """
    taken = []
    for _ in range(samples + WARM_UP):
        dist.barrier()
        start = time.perf_counter()
        call()
        settle()
        taken.append(time.perf_counter() - start)
    return lower_quartile(taken[WARM_UP:])


def _call(name: str, size: int, device: str) -> Callable[[], object]:
    """Return one collective whose full buffer on a rank has `size` bytes."""
    ranks = dist.get_world_size()
    elements = size // 4 // ranks * ranks
    whole = torch.zeros(elements, device=device)
    part = torch.zeros(elements // ranks, device=device)
    other = torch.zeros_like(whole)
    calls: dict[str, Callable[[], object]] = {
        "all_gather": lambda: dist.all_gather_single(whole, part),
        "reduce_scatter": lambda: dist.reduce_scatter_single(part, whole),
        "all_reduce": lambda: dist.all_reduce(whole),
        "all_to_all": lambda: dist.all_to_all_single(other, whole),
        "p2p": lambda: _around(whole, other),
    }
    return calls[name]


def _around(sent: Tensor, received: Tensor) -> None:
    """Send to the next rank while receiving from the one before."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    pair = [
        dist.P2POp(dist.isend, sent, (rank + 1) % ranks),
        dist.P2POp(dist.irecv, received, (rank - 1) % ranks),
    ]
    for work in dist.batch_isend_irecv(pair):
        work.wait()
