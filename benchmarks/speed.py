"""Candidates per CPU-second with full time, memory and interval each, on one core.

python benchmarks/speed.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np

from crore.catalog import load_catalog
from crore.cost import (
    Job,
    Layout,
    fitted_constants,
    interval,
    machine_of,
    memory,
    operations,
    shape_of,
    stack_of,
    step_time,
)

CANDIDATES = 32_768
REPEATS = 7


def random_layouts(gpus: int, experts: bool) -> Layout:
    """Draw CANDIDATES layouts of the common axes."""
    rng = np.random.default_rng(0)

    def pick(*values: int) -> np.ndarray:
        return rng.choice(np.array(values, dtype=float), CANDIDATES)

    tp, pp, cp = pick(1, 2, 4, 8), pick(1, 2, 4, 8, 16), pick(1, 2)
    return Layout(
        tp=tp,
        pp=pp,
        cp=cp,
        dp_shard=gpus / (tp * pp * cp),
        vpp=pick(1, 2, 4),
        ep=pick(1, 8, 32) if experts else 1.0,
        micro_batch=pick(1, 2),
        recompute=pick(0, 1, 2, 3),
        zero=pick(1, 3),
        schedule=pick(1, 2),
        sequence_parallel=(tp > 1) * 1.0,
    )


def main() -> None:
    """Print the median rate of a dense and a mixture-of-experts model."""
    catalog, constants = load_catalog(), fitted_constants()
    for name in ("llama3.1-405b", "deepseek-v3"):
        model = catalog.model(name)
        layout = random_layouts(16_384, bool(model.experts))
        rates = []
        for _ in range(REPEATS):
            start = time.process_time()
            job = Job(
                shape=shape_of(model),
                layout=layout,
                machine=machine_of(catalog.accelerator("h100-sxm"), "bf16"),
                stack=stack_of("megatron-2025"),
                seq_len=8192.0,
                global_batch=2048.0,
            )
            ops = operations(job)
            step = step_time(job, constants, ops)
            memory(job, ops)
            interval(job, step)
            rates.append(CANDIDATES / (time.process_time() - start))
        low, mid, high = np.quantile(rates, [0, 0.5, 1])
        print(f"{name}: {mid:,.0f} candidates per CPU-second ({low:,.0f} to {high:,.0f})")


if __name__ == "__main__":
    main()
