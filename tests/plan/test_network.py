"""A network is chosen where none is named: it holds the island and hardly costs a step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crore.plan import PlanRequest, make_plan
from crore.plan.network import HOP_S, SLOWER, choose_network, run_on
from crore.plan.pricing import machine_for, price

LARGE = PlanRequest(
    model="llama-3.1-405b", gpu="h100-sxm", gpus=16384, tokens=15_600_000_000_000, seq_len=8192,
    global_batch=2048,
)  # fmt: skip
SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**12, global_batch=64)


@pytest.fixture(scope="module", params=[LARGE, SMALL], ids=["16k", "64"])
def plan(request):
    return make_plan(request.param).plan


def test_the_chosen_network_holds_the_island(plan):
    design = plan.network.design
    assert design is not None
    assert design.endpoints == plan.gpus // plan.islands
    assert design.max_endpoints >= design.endpoints


def test_it_is_the_cheapest_of_those_within_a_percent_of_the_fastest(plan):
    chosen, others = plan.network.design, plan.network.alternatives
    steps = [plan.step_time_s.value, *(step_s for _, step_s in others)]
    assert plan.step_time_s.value <= min(steps) * (1 + SLOWER)
    for design, step_s in others:
        if step_s <= min(steps) * (1 + SLOWER):
            assert design.price_usd.value >= chosen.price_usd.value


def test_a_large_island_has_several_networks_to_choose_from():
    others = make_plan(LARGE).plan.network.alternatives
    assert len({(design.planes, design.taper) for design, _ in others}) >= 4
    prices = [design.price_usd.value for design, _ in others]
    assert prices == sorted(prices)


def test_its_bill_sums_to_its_price_and_its_power(plan):
    design = plan.network.design
    bill = design.bill_of_materials
    assert sum(item.total_usd for item in bill) == pytest.approx(design.price_usd.value)
    assert all(item.count * item.unit_usd == pytest.approx(item.total_usd) for item in bill)
    assert sum(item.power_w for item in bill) == pytest.approx(design.power_w)
    low, value, high = design.price_usd.spread()
    assert low <= value <= high


def test_the_plan_is_priced_on_its_hops_and_its_taper(plan):
    design, machine = plan.network.design, plan.network.machine
    assert machine.hop_latency_s == pytest.approx(design.diameter * HOP_S)
    assert (machine.taper, machine.pod_size) == (design.taper, design.pod_endpoints)
    _, time, _ = price(plan.question, plan.chosen, machine)
    assert float(time.step_s) == plan.step_time_s.value


def test_no_network_beats_the_ideal_one_of_the_search(plan):
    assert run_on(plan.question, plan.chosen) <= plan.run_s


@pytest.mark.parametrize(
    "request_",
    [
        replace(SMALL, gpus=8),
        replace(SMALL, gpus=72, gpu="gb200-nvl72", global_batch=72),
        PlanRequest(model="gpt2-xl", gpu="rtx-4090", gpus=16, tokens=10**9),
    ],
    ids=["one server", "one rack", "cards at home"],
)
def test_nothing_is_chosen_inside_a_domain_or_for_cards_without_a_network(request_):
    plan = make_plan(request_).plan
    assert (plan.network.design, plan.network.named, plan.network.alternatives) == (None, None, ())
    assert plan.network.machine == machine_for(plan.question)


def test_a_named_network_stays():
    plan = make_plan(replace(SMALL, fabric="rail-400g")).plan
    assert plan.network.named is not None
    assert plan.network.named.name == "rail-400g"
    assert plan.network.design is None


@pytest.mark.parametrize(
    ("full", "tapered"),
    [
        ("fat-tree-400g", "fat-tree-400g-oversubscribed"),
        ("clos-8plane-2tier-100g", "clos-8plane-2tier-100g-tapered"),
        ("clos-8plane-3tier", "clos-8plane-3tier-tapered"),
    ],
)
@pytest.mark.parametrize(
    "fix", [{"tp": 1, "pp": 1, "zero": 3}, {"tp": 8, "pp": 1, "zero": 1}, {"tp": 4, "pp": 4}, {}],
    ids=str,
)  # fmt: skip
def test_a_tapered_network_is_never_faster(full, tapered, fix):
    whole, narrow = (
        make_plan(replace(SMALL, gpus=512, global_batch=512, fabric=name, fix=fix)).plan.run_s
        for name in (full, tapered)
    )
    assert narrow >= whole


def test_a_longer_way_costs_time():
    near, far = (
        make_plan(replace(SMALL, fabric=name, fix={"tp": 1, "pp": 1, "zero": 3})).plan
        for name in ("rail-400g", "fat-tree-400g")
    )
    assert far.step_time_s.value > near.step_time_s.value


def test_the_run_on_a_machine_is_that_of_its_candidate():
    plan = make_plan(SMALL).plan
    slow = replace(plan.network.machine, nic_bytes_per_s=1e9)
    assert run_on(plan.question, plan.chosen, slow) > plan.run_s
    again = choose_network(plan.question, plan.chosen)
    assert again.design == plan.network.design
    assert np.isfinite(plan.run_s)
