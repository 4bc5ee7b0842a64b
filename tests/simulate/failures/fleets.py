"""Runs that several tests are about."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from crore.cost.goodput import HAZARD_PER_GPU_S
from crore.simulate.failures import Hazard, Run, catalogue_run, failures_only

FLEETS = {16_384: (2048, 2), 100_000: (4608, 4), 1_000_000: (4608, 10), 10_000_000: (4608, 20)}


def fleet(gpus: int, hazard: float = 1.0) -> Run:
    """Return a run with everything that may happen, as the catalogue has it."""
    world, islands = FLEETS[gpus]
    run = catalogue_run(
        gpus=float(gpus), world_gpus=float(world), islands=islands, step_s=13.2, round_s=660.0
    )
    return replace(run, hazard=hazard)


def only_failures(gpus: float, world_gpus: float, islands: int = 1, **changes: Any) -> Run:
    """Return a run in which GPUs fail at Llama 3's rate and nothing else happens."""
    run = failures_only(
        catalogue_run(gpus=gpus, world_gpus=world_gpus, islands=islands, step_s=0.0, round_s=400.0)
    )
    alike = Hazard(name="all", domain="gpu", domain_gpus=1.0, per_gpu_s=HAZARD_PER_GPU_S)
    return replace(run, **{"hazards": (alike,), **changes})


@st.composite
def runs(draw: Callable[..., Any]) -> Run:
    """Runs of any size, with rates and times over four orders of magnitude."""

    def log(low: float, high: float) -> float:
        return math.exp(draw(st.floats(math.log(low), math.log(high))))

    count = draw(st.integers(1, 60))
    gpus = log(count, 1e7)
    world = log(1.0, max(gpus / count, 1.0))
    run = catalogue_run(
        gpus=gpus, world_gpus=min(world, gpus / count), islands=count,
        step_s=draw(st.sampled_from([0.0, 1.0, 13.2])), round_s=log(30, 7200),
    )  # fmt: skip
    return replace(
        run,
        hazard=log(0.01, 30),
        stall_s=log(0.01, 600), rebuild_s=log(0.01, 600), absent_s=log(1, 7200),
        disk=replace(run.disk, write_s=log(0.01, 600), restart_s=log(1, 3600)),
        silent=replace(run.silent, per_gpu_s=log(1e-13, 1e-9), detect_s=log(1, 3600)),
        straggling=replace(
            run.straggling, per_gpu_s=log(1e-13, 1e-8), slowdown=log(1, 10), evict_s=log(1, 7200)
        ),
        spares=replace(
            run.spares, share=draw(st.sampled_from([0.0, 0.001, 0.05])), repair_s=log(60, 1e6)
        ),
        sites=replace(run.sites, every_s=log(1e5, 1e9), away_s=log(60, 1e5)),
        quorum=draw(st.floats(0.1, 1.0)),
    )  # fmt: skip
