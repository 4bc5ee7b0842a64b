"""What binds is said with its number; what one asks for is never exceeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.fleet import Rounds
from crore.plan.limits import limits_of

REQUEST = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12, global_batch=64)
NAMES = {
    "memory", "global batch", "critical batch", "data", "input bandwidth", "checkpoint bandwidth",
    "start-up", "latency wall",
}  # fmt: skip


@pytest.fixture(scope="module")
def plan():
    return make_plan(REQUEST).plan


def limits(
    plan, request=REQUEST, *, chosen=None, machine=None, step_s=None, peak=None, mtbf_s=None,
    rounds=None,
):  # fmt: skip
    """Return a plan's limits by name, some of its numbers replaced."""
    found = limits_of(
        replace(plan.question, request=request), chosen or plan.chosen,
        machine or plan.network.machine, step_s or plan.step_time_s.value,
        peak or plan.memory_bytes, mtbf_s or plan.mtbf_s, rounds or plan.rounds,
    )  # fmt: skip
    return {limit.name: limit for limit in found}


def test_every_limit_is_checked_with_its_number(plan):
    assert {limit.name for limit in plan.limits} == NAMES
    for limit in plan.limits:
        assert limit.value > 0, limit.name
        assert limit.limit > 0, limit.name
        assert limit.unit
        assert limit.note


def test_what_binds_comes_first(plan):
    tight = limits(plan, peak=0.95 * plan.question.memory_bytes)
    assert next(iter(tight)) == "memory"
    assert tight["memory"].binds
    assert not limits(plan, peak=0.5 * plan.question.memory_bytes)["memory"].binds


def test_a_batch_over_the_critical_one_binds(plan):
    own = limits(plan)["critical batch"]
    assert own.value == plan.global_batch_tokens
    large = replace(plan.chosen, batch=2 * own.limit / plan.question.seq_len)
    assert limits(plan, chosen=large)["critical batch"].binds
    assert not own.binds


def test_too_few_sequences_for_the_gpus_bind():
    """Four sequences on 64 GPUs: each is cut, and waits for the others."""
    request = replace(REQUEST, gpus=64, global_batch=4)
    few = limits(make_plan(request).plan, request)["global batch"]
    assert few.binds
    assert few.limit > few.value == 4 * 8192


def test_text_read_more_than_four_times_binds(plan):
    """Four passes are worth nearly as much as new text (arXiv 2305.16264)."""
    for passes, binds in ((3.9, False), (4.1, True)):
        stock = replace(REQUEST, stock_tokens=round(10**12 / passes))
        assert limits(plan, stock)["data"].binds is binds


def test_frequent_failures_ask_for_more_checkpoint_bandwidth_and_faster_starts(plan):
    calm, rough = limits(plan), limits(plan, mtbf_s=plan.mtbf_s / 10_000)
    # Young's interval goes with the root of the time between failures.
    name = "checkpoint bandwidth"
    assert rough[name].value == pytest.approx(100 * calm[name].value)
    assert rough["start-up"].limit == pytest.approx(calm["start-up"].limit / 10_000)


def test_a_very_short_step_meets_the_latency_wall(plan):
    floor = limits(plan)["latency wall"].value
    assert limits(plan, step_s=4.9 * floor)["latency wall"].binds
    assert not limits(plan, step_s=5.1 * floor)["latency wall"].binds


def test_islands_are_bound_by_the_network_between_them(plan):
    apart = replace(plan.chosen, islands=2.0, worlds=1.0)
    for exposed, binds in ((0.0, False), (1.0, True)):
        rounds = Rounds(interval=50.0, bits=16.0, outer_s=5.0, exposed_s=exposed)
        found = limits(plan, chosen=apart, rounds=rounds)
        assert found["outer bandwidth"].binds is binds
    assert "outer bandwidth" not in limits(plan)


@pytest.mark.parametrize(
    "asked",
    [
        Limits(gpus=9), Limits(power_w=20e3), Limits(days=90), Limits(memory_bytes=30 * 10**9),
        Limits(global_batch_tokens=10**6), Limits(memory_margin=0.3),
        Limits(gpus=12, memory_bytes=50 * 10**9, power_w=25e3),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("objective", ["fastest", "cheapest"])
def test_a_limit_is_never_exceeded(asked, objective):
    request = replace(REQUEST, global_batch=None, limits=asked, objective=objective)
    plan = make_plan(request).plan
    assert plan.gpus <= (asked.gpus or 16)
    assert plan.economy.power_w is not None
    assert plan.economy.power_w <= (asked.power_w or np.inf)
    assert plan.days.value <= (asked.days or np.inf)
    room = min(asked.memory_bytes or np.inf, plan.question.accelerator.memory_bytes)
    assert plan.memory_bytes * (1 + asked.memory_margin) <= room * (1 + 1e-12)
    assert plan.global_batch_tokens <= (asked.global_batch_tokens or np.inf)


def test_a_deadline_holds_on_the_network_the_plan_runs_on():
    """The search knows an ideal network; hops and a taper take half a percent here."""
    request = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=512, tokens=10**12,
                          global_batch=512)  # fmt: skip
    free = make_plan(request).plan
    exact = make_plan(replace(request, limits=Limits(days=free.days.value))).plan
    assert exact.days.value <= free.days.value


def test_worlds_left_over_for_want_of_sequences_bind_the_batch():
    """Five worlds of 16 GPUs are there; pipelines that are filled need sequences for each."""
    request = PlanRequest(
        model="llama3-8b", gpu="h100-sxm", gpus=80, stack="crore", tokens=10**11, seq_len=4096,
        global_batch=100, limits=Limits(world_gpus=16),
        fix={"islands": 1, "pp": 4, "tp": 4, "schedule": "1f1b", "micro_batch": 8},
    )  # fmt: skip
    plan = make_plan(request).plan
    assert (plan.worlds, plan.spares) == (3, 32)
    batch = {it.name: it for it in plan.limits}["global batch"]
    assert batch.binds
    assert batch.limit == pytest.approx(batch.value * 5 / 3)
    assert "2 worlds left over" in batch.note
    fed = make_plan(replace(request, global_batch=160)).plan
    assert (fed.worlds, fed.spares) == (5, 0)
    assert "left over" not in {it.name: it for it in fed.limits}["global batch"].note
