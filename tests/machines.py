"""A measured machine that no one owns: its figures follow from four rates, and so do its plans."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from crore.catalog.calibration import (
    MESSAGES,
    PASSES,
    Attention,
    Calibration,
    Curve,
    Passes,
    Products,
    Setting,
)

FLOPS, BYTES, LATENCY_S = 1e11, 1e10, 1e-4
M, N, K = (256.0, 2048.0), (128.0, 512.0, 2048.0), (128.0, 512.0, 2048.0)
SEQ, WIDTH = (128.0, 512.0, 2048.0), (32.0, 64.0)
SIZES = tuple(4.0**e for e in range(7, 14))


def noisy(seed, values):
    """Return values, each off by up to 10 %."""
    draw = np.random.default_rng(seed).uniform(0.9, 1.1, len(values))
    return tuple(float(v) for v in draw * np.asarray(values))


def setting(processes, threads, seed=0, **fields):
    """Return a setting whose every process has `threads` times the rates of this file."""
    flops = FLOPS * threads
    products = [2 * m * n * k / flops for m, n, k in itertools.product(M, N, K)]
    cores = [2 * s * s * d / flops for s, d in itertools.product(SEQ, WIDTH)]
    passed = [1e-6 + 3 * size / (BYTES * threads) for size in SIZES]
    sent = [LATENCY_S + size / BYTES for size in SIZES]
    return Setting(
        processes=processes, threads=threads, launch_s=2e-6,
        products={
            "fp32": Products(
                m=M, n=N, k=K, forward_s=noisy(seed, products), input_s=noisy(seed + 1, products),
                weight_s=noisy(seed + 2, products),
            )
        },
        attention={
            "fp32": Attention(
                seq=SEQ, head_dim=WIDTH, forward_s=noisy(seed + 3, cores),
                backward_s=noisy(seed + 4, [2.5 * s for s in cores]),
            )
        },
        passes={
            kind: Passes(
                size=SIZES, hot_s=noisy(seed + 5, passed),
                cold_s=noisy(seed + 6, [2 * s for s in passed]),
            )
            for kind in PASSES
        },
        optimizer=Curve(size=SIZES, seconds=noisy(seed + 7, [28 * s / BYTES for s in SIZES])),
        messages={
            name: Curve(size=SIZES, seconds=noisy(seed + 8, sent)) for name in MESSAGES
        } if processes > 1 else {},
        **fields,
    )  # fmt: skip


def calibration(seed=0, **fields):
    """Return two cores, measured as one process and as two; the same for the same seed."""
    made: dict[str, Any] = {
        "device": "cpu", "name": "Two invented cores", "date": "2026-11-26T00:00:00+00:00",
        "torch": "2.13.0+cpu", "cores": 2, "memory_bytes": 16e9, "process_bytes": 230e6,
        "load": 0.1, "took_s": 41.5, "settings": (setting(1, 2, seed), setting(2, 1, seed + 10)),
    }  # fmt: skip
    return Calibration(**(made | fields))
