"""Share of the time a world makes progress when its GPUs fail: restarted whole, or going on."""

from __future__ import annotations

from typing import Final

import numpy as np

from crore.cost.arrays import Num

HAZARD_PER_GPU_S: Final = 419 / (16_384 * 54 * 86_400)
"""Unexpected interruptions per GPU-second: 419 in 54 days on 16,384 H100 (arXiv 2407.21783)."""
DISK: Final = (30.0, 600.0)
"""(checkpoint write, restart) seconds of a large run that restarts from storage; estimates."""
PEER_MEMORY: Final = (0.05, 30.0)
"""The same from a peer's memory with hot spares (Gemini, SOSP 2023, best case)."""


def mean_time_between_failures_s(gpus: Num, hazard: Num = 1.0) -> Num:
    """Seconds between failures anywhere in the world: `1/(κ·λ·N)`; 18.2 s at ten million.

    `hazard` is κ, the failure rate over that of Llama 3's cluster (`HAZARD_PER_GPU_S`).
    """
    return 1.0 / (HAZARD_PER_GPU_S * hazard * gpus)


def restart_goodput(gpus: Num, checkpoint_s: Num, restart_s: Num, hazard: Num = 1.0) -> Num:
    """Goodput at the best checkpoint interval, exact for exponential failures (Daly 2006).

    `tau / (M·e^(R/M)·(e^((tau+C)/M) - 1))` with tau of `best_interval`.
    """
    mtbf = np.asarray(mean_time_between_failures_s(gpus, hazard), dtype=float)
    cost = checkpoint_s / mtbf
    x = best_interval(cost)
    with np.errstate(over="ignore"):
        goodput: Num = x / (np.exp(restart_s / mtbf) * np.expm1(x + cost))
    return goodput


def best_interval(cost: Num) -> Num:
    """Return the best time of work between checkpoints over the MTBF: `1 + W0(-e^(-(1+cost)))`.

    `cost` is the time of a checkpoint over the MTBF. Found by Newton's method on the optimality
    condition `(1 - x)·e^(x + cost) = 1` of Daly's exact form.
    """
    x = np.minimum(np.sqrt(2 * cost), 0.999)
    for _ in range(60):
        # g(x) = ln(1 - x) + x + C/M is concave and falls from C/M to minus infinity on (0, 1).
        step = (np.log1p(-x) + x + cost) / (-x / (1 - x))
        x = np.clip(x - step, 1e-12, 1 - 1e-12)
    return x


def availability(world_gpus: Num, absent_s: Num, hazard: Num = 1.0) -> Num:
    """Share of the time a world of `world_gpus` is there: `1/(1 + κ·λ·G·D)`.

    Each of its failures takes it away for `absent_s` (alternating renewal process).
    """
    return 1.0 / (1.0 + HAZARD_PER_GPU_S * hazard * world_gpus * absent_s)


def quorum_goodput(
    gpus: Num, world_gpus: Num, stall_s: Num, absent_s: Num, hazard: Num = 1.0
) -> Num:
    """Goodput when a failure stalls all `gpus` for `stall_s` and its own world for `absent_s`.

    `availability/(1 + κ·λ·N·S)`: a detector with dead time, failures within a stall ending with it
    (torchft; arXiv 2602.00277). 0.92 at ten million GPUs with one second, worlds of 8,192, 600 s.
    """
    stalls = HAZARD_PER_GPU_S * hazard * gpus * stall_s
    return availability(world_gpus, absent_s, hazard) / (1.0 + stalls)
