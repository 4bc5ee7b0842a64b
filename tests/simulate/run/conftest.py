"""Plans that the tests of a simulated run share, made once each."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from crore.io import Record
from crore.plan import Limits, PlanRequest, make_plan, plan_record, read_mission
from crore.simulate import simulate_plan, step_of, subject_of

REQUESTS: dict[str, dict[str, Any]] = {
    "dense": {},
    "one": {"model": "qwen2.5-0.5b", "gpu": "rtx-3090", "gpus": 1, "tokens": 10**9},
    "named": {"model": "llama-3.1-8b", "cluster": "dgx-h100-16k", "gpus": 64, "tokens": 10**11},
    "flat": {"model": "llama-3.1-8b", "gpu": "a100-sxm", "gpus": 1024, "tokens": 10**11},
    "quorum": {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpus": 12_000, "tokens": 10**14,
               "stack": "crore"},
    "islands": {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpus": 16_384, "tokens": 10**14,
                "stack": "crore", "fix": {"islands": 2}},
    "ten_million": {},
}  # fmt: skip
MISSIONS = {"dense": "llama3_405b", "ten_million": "ten_million"}
DRAWS = {"ten_million": 20}
WORLD_GPUS = {"quorum": 8_000, "islands": 8_000}


@pytest.fixture(scope="session")
def plans():
    """Return a plan's record by name; the smaller fleets work for about a month."""

    @cache
    def made(name: str) -> Record:
        fields = dict(read_mission(MISSIONS.get(name, "")) or REQUESTS[name])
        if name in WORLD_GPUS:
            fields["limits"] = Limits(world_gpus=WORLD_GPUS[name])
        return plan_record(make_plan(PlanRequest(**fields)))

    return made


@pytest.fixture(scope="session")
def steps(plans):
    """Return a plan's step by name, seed 0."""

    @cache
    def made(name: str):
        return step_of(plans(name), subject_of(plans(name)).run, 0)

    return made


@pytest.fixture(scope="session")
def runs(plans, steps):
    """Return a plan's simulated run by name; flags as `simulate_plan` has them."""

    @cache
    def made(name: str, **flags: Any):
        return simulate_plan(
            subject_of(plans(name)), steps(name), **{"draws": DRAWS.get(name, 40), **flags}
        )

    return made
