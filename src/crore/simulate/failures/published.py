"""What the model says of runs whose failures were published: for comparison, nothing is fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from crore.catalog.reliability import load_reliability
from crore.simulate.failures.catalogue import catalogue_run
from crore.simulate.failures.closed import goodput, interval_s
from crore.simulate.failures.params import Checkpoint, Run
from crore.simulate.failures.rates import poisson

GPU_PARTS: Final = ("faulty-gpu", "gpu-hbm", "gpu-sram", "gpu-system-processor", "gpu-thermal")
"""Causes by which a GPU dies."""
BLOOM_WRITE_S: Final = 40.0
"""Of its checkpoint of 2.3 TB (bigscience chronicles, tr11-176B-ml)."""
STORAGE_WASTE_S: Final = (35 + 3 * 60 / 2 + 15) * 60.0
"""Gemini's baseline per failure: a checkpoint is done after 30 to 40 minutes, half of 3 hours are
lost, and 10 to 20 minutes pass until it is back (SOSP 2023)."""
GEMINI_STEP_S: Final = 60.0
"""One checkpoint a step; its seconds are an estimate, and matter little."""


def predictions(hazard: float = 1.0) -> dict[str, float]:
    """Return row of `[published]` in reliability.toml -> what the model says, by its closed forms.

    `hazard` is over that of Llama 3's cluster. Runs that restart stop for maintenance as Llama 3
    did; none is told how long its operators took, beyond the catalogue's figures.
    """
    peer_s = _run(16_384, hazard).peer
    memory_s = peer_s.write_s + GEMINI_STEP_S / 2 + peer_s.restart_s
    ft = _run(100_000, hazard, world_gpus=4096.0)
    return {
        "llama3-goodput": float(goodput(_run(16_384, hazard), "restart-disk").goodput),
        "ft-hsdp-restart": float(goodput(ft, "restart-disk").goodput),
        "ft-hsdp-elastic": float(goodput(ft, "elastic").goodput),
        "epoch-100k": _run(100_000, hazard).mtbf_s / 60,
        "epoch-1m": _run(1_000_000, hazard).mtbf_s / 60,
        "bloom-rate": _parts(_run(384, hazard)) * 7 * 86_400,
        "bloom-interval": _bloom_interval_s(hazard) / 3600,
        "opt-rate": 86_400 / _run(1024, hazard).mtbf_s,
        "opt-buffer": _buffer(2 / 86_400),
        "gemini-waste": 1 - memory_s / STORAGE_WASTE_S,
        "gemini-recovery": STORAGE_WASTE_S / memory_s,
    }


def _run(gpus: float, hazard: float, world_gpus: float | None = None) -> Run:
    run = catalogue_run(
        gpus=gpus, world_gpus=world_gpus or gpus, islands=1, step_s=6.0, round_s=600.0
    )
    return replace(run, hazard=hazard)


def _parts(run: Run) -> float:
    """Return GPUs that die, per second."""
    each = sum(h.per_gpu_s for h in run.hazards if h.name in GPU_PARTS)
    return run.hazard * run.gpus * each


def _bloom_interval_s(hazard: float) -> float:
    run = _run(384, hazard)
    how = Checkpoint(write_s=BLOOM_WRITE_S, restart_s=run.disk.restart_s)
    return interval_s(run, how, 1 / run.mtbf_s)


def _buffer(failures_per_s: float) -> float:
    """Return machines in repair that are exceeded a thousandth of the time."""
    down_s = load_reliability().figure("spares_repair_s").value
    broken, chance = poisson(failures_per_s * down_s)
    return float(broken[np.searchsorted(np.cumsum(chance), 0.999)])
