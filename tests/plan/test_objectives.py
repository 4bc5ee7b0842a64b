"""Fastest, cheapest, Pareto: each keeps its promise, and limits on GPUs and power are kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.errors import Infeasible
from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.economy import full_load_w
from crore.plan.objectives import dollars, gpu_counts, largest_count, ordered
from crore.plan.resolve import resolve

REQUEST = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**12)


def burdens(plan):
    """What one wants less of."""
    return plan.run_s, dollars(plan), plan.economy.energy_j, plan.risk


@pytest.fixture(scope="module")
def fastest():
    return make_plan(REQUEST).plan


@pytest.fixture(scope="module")
def cheapest():
    return make_plan(replace(REQUEST, objective="cheapest")).plan


@pytest.fixture(scope="module")
def frontier():
    return make_plan(replace(REQUEST, objective="pareto")).plans


def test_the_cheapest_is_no_dearer_and_the_fastest_no_slower(fastest, cheapest):
    assert dollars(cheapest) <= dollars(fastest)
    assert fastest.run_s <= cheapest.run_s
    assert cheapest.gpus < fastest.gpus


@pytest.mark.parametrize("share", [1.0, 1.5, 3.0])
def test_the_cheapest_under_a_deadline_keeps_it_and_is_no_dearer_than_the_fastest(fastest, share):
    days = share * fastest.days.value * (1 + 1e-12)
    plan = make_plan(replace(REQUEST, objective="cheapest", limits=Limits(days=days))).plan
    assert plan.days.value <= days
    assert dollars(plan) <= dollars(fastest)


def test_a_later_deadline_never_costs_more(fastest):
    prices = [
        dollars(make_plan(replace(REQUEST, objective="cheapest", limits=Limits(days=days))).plan)
        for days in (fastest.days.value * x for x in (1 + 1e-12, 2.1, 4.2))
    ]
    assert prices == sorted(prices, reverse=True)


def test_no_plan_of_a_frontier_is_beaten_in_everything(frontier):
    assert len(frontier) >= 3
    for plan in frontier:
        mine = burdens(plan)
        for other in frontier:
            if other is not plan:
                assert any(a > b for a, b in zip(burdens(other), mine, strict=True))


def test_a_frontier_holds_the_fastest_first_and_the_cheapest(frontier, fastest, cheapest):
    assert frontier[0].run_s == pytest.approx(fastest.run_s, rel=1e-12)
    assert min(dollars(plan) for plan in frontier) == pytest.approx(dollars(cheapest), rel=1e-12)
    times = [plan.run_s for plan in frontier]
    assert times == sorted(times)


def test_equal_plans_stand_once_on_a_frontier(fastest):
    request = replace(REQUEST, objective="pareto")
    assert ordered(request, (fastest, fastest)) == (fastest,)


def test_plans_come_in_the_order_asked_for(frontier):
    by_price = ordered(replace(REQUEST, objective="cheapest", top=2), frontier)
    assert [dollars(p) for p in by_price] == sorted(dollars(p) for p in frontier)[:2]
    by_time = ordered(replace(REQUEST, top=2), frontier)
    assert [p.run_s for p in by_time] == [p.run_s for p in frontier[:2]]


def test_without_a_price_the_cheapest_takes_fewest_gpu_hours():
    plan = make_plan(PlanRequest(model="llama3.2-1b", gpu="l4", gpus=2, tokens=10**10)).plan
    assert plan.economy.usd is None
    assert dollars(plan) == pytest.approx(plan.gpus * plan.run_s / 3600)


def test_counts_are_whole_servers_and_all_there_are():
    q = resolve(replace(REQUEST, gpus=100))
    counts = gpu_counts(q)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 100
    assert all(n % 8 == 0 for n in counts if 8 <= n < 100)
    assert {96, 64, 48, 32, 24, 16, 8} <= set(counts)


def test_a_limit_on_power_is_kept_at_full_load():
    q = resolve(replace(REQUEST, limits=Limits(power_w=50e3)))
    full = full_load_w(q)
    assert full is not None
    assert largest_count(q) == int(50e3 / full)
    assert max(gpu_counts(q)) * full <= 50e3


def test_the_tighter_of_two_limits_counts():
    q = resolve(replace(REQUEST, limits=Limits(power_w=50e3, gpus=4)))
    assert largest_count(q) == 4


def test_power_that_feeds_no_gpu_says_what_one_draws():
    with pytest.raises(Infeasible, match=r"one h100-sxm draws 1,\d\d\d W .*limit of 100 W"):
        make_plan(replace(REQUEST, limits=Limits(power_w=100.0)))


def test_power_of_a_part_without_a_board_limit_cannot_be_kept():
    with pytest.raises(Infeasible, match="no published board power"):
        make_plan(replace(REQUEST, gpu="tpu-v4", stack="xla", limits=Limits(power_w=1e6)))


def test_several_worlds_are_not_looked_for_on_the_gpus_of_one():
    pinned = replace(REQUEST, stack="crore", fix={"islands": 2}, objective="cheapest")
    q = resolve(replace(pinned, limits=Limits(world_gpus=16)))
    assert min(gpu_counts(q)) > 16
    with pytest.raises(Infeasible, match="islands=2 needs more than one world of 16"):
        make_plan(replace(pinned, limits=Limits(world_gpus=16, gpus=8)))


def test_an_interrupted_search_tries_no_further_count():
    def stop(_share, found):
        if found.ranked:
            raise KeyboardInterrupt

    answer = make_plan(replace(REQUEST, objective="pareto"), stop)
    assert answer.interrupted
    assert {plan.gpus for plan in answer.plans} == {64}
