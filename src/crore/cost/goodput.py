"""Share of the time a synchronous world makes progress when any failure restarts all of it."""

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


def mean_time_between_failures_s(gpus: Num) -> Num:
    """Seconds between failures anywhere in the world: `1/(hazard·N)`; 18.2 s at ten million."""
    return 1.0 / (HAZARD_PER_GPU_S * gpus)


def restart_goodput(gpus: Num, checkpoint_s: float, restart_s: float) -> Num:
    """Goodput at the best checkpoint interval, exact for exponential failures (Daly 2006).

    `tau / (M·e^(R/M)·(e^((tau+C)/M) - 1))`, with `tau = M(1 + W0(-e^(-(1+C/M))))` found by Newton's
    method on the optimality condition `(1 - x)·e^(x + C/M) = 1`, `x = tau/M`.
    """
    mtbf = np.asarray(mean_time_between_failures_s(gpus), dtype=float)
    cost = checkpoint_s / mtbf
    x = np.minimum(np.sqrt(2 * cost), 0.999)
    for _ in range(60):
        # g(x) = ln(1 - x) + x + C/M is concave and falls from C/M to minus infinity on (0, 1).
        step = (np.log1p(-x) + x + cost) / (-x / (1 - x))
        x = np.clip(x - step, 1e-12, 1 - 1e-12)
    with np.errstate(over="ignore"):
        goodput: Num = x / (np.exp(restart_s / mtbf) * np.expm1(x + cost))
    return goodput
