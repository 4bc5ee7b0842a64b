"""One step away from a plan: never faster where the plan is the fastest, never slower for more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.network import run_on
from crore.plan.whatif import FAR, RESOURCES, what_if

SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**12, global_batch=128)
CASES = {
    "one world": SMALL,
    "large": PlanRequest(
        model="llama-3.1-405b", gpu="h100-sxm", gpus=16384, tokens=10**13, global_batch=2048
    ),
    "experts": PlanRequest(
        model="mixtral-8x7b", gpu="h100-sxm", gpus=32, tokens=10**11, global_batch=64
    ),
    "pinned": replace(SMALL, fix={"tp": 4, "pp": 2}),
    "fleet": replace(SMALL, stack="crore", limits=Limits(world_gpus=16), fix={"islands": 2}),
    "cheapest": replace(SMALL, objective="cheapest"),
}
LAYOUT = ("tp ", "pp ", "cp ", "ep ", "micro-batch ")


@pytest.fixture(scope="module", params=CASES.values(), ids=list(CASES))
def answer(request):
    return make_plan(request.param)


def test_no_step_of_the_layout_is_faster_than_the_optimum(answer):
    steps = [it for it in answer.what_if if it.step.startswith(LAYOUT)]
    assert steps or answer.request.fix
    for it in steps:
        assert it.ratio is None or 1 - 1e-12 <= it.ratio <= FAR, it.step


def test_more_of_a_resource_is_never_slower(answer):
    ratios = {it.step: it.ratio for it in answer.what_if}
    for name in RESOURCES:
        assert ratios[name] is not None
        # A ring in a larger domain has more steps to start than the network has: 0.2 % here.
        most = 1 + (2e-3 if name == "scale-up domain x 2" else 1e-9)
        assert 0.5 - 1e-9 <= ratios[name] <= most, name
    assert ratios["FLOP/s x 2"] < 0.99


def test_a_ratio_is_the_run_over_the_plans(answer):
    for it in answer.what_if:
        assert (it.ratio is None) is (it.run_s is None)
        if it.ratio is not None and it.run_s is not None:
            assert it.run_s == pytest.approx(it.ratio * answer.plan.run_s)
        else:
            assert it.note


def test_no_change_is_a_ratio_of_one(answer, monkeypatch):
    monkeypatch.setattr("crore.plan.whatif.RESOURCES", {"nothing": ()})
    plan = answer.plan
    steps = what_if(plan.question, plan.chosen, plan.run_s, plan.network.machine, 10**9)
    (same,) = [it for it in steps if it.step == "nothing"]
    assert same.ratio == pytest.approx(1, abs=1e-12)


def test_a_pinned_axis_takes_no_step():
    steps = {it.step for it in make_plan(CASES["pinned"]).what_if}
    assert not [step for step in steps if step.startswith(("tp ", "pp "))]
    assert [step for step in steps if step.startswith("micro-batch ")]


def test_each_step_names_where_it_starts_and_where_it_goes():
    answer = make_plan(SMALL)
    for it in answer.what_if:
        if it.step.startswith("tp "):
            _, here, _, there = it.step.split()
            assert int(here) == answer.plan.layout["tp"]
            fixed = make_plan(replace(SMALL, fix={"tp": int(there)})).plan
            searched = run_on(fixed.question, fixed.chosen)
            plan_s = run_on(answer.plan.question, answer.plan.chosen)
            assert it.ratio == pytest.approx(searched / plan_s, rel=1e-9)


def test_gpu_counts_are_searched_where_few_settings_are_and_the_gpus_are_one_world():
    plan = make_plan(SMALL).plan
    given = (plan.question, plan.chosen, plan.run_s, plan.network.machine)
    quick, slow = ({it.step: it.ratio for it in what_if(*given, priced)} for priced in (0, 10**9))
    assert quick.keys() - slow.keys() == {"GPUs x 2", "GPUs / 2"}
    more, fewer = quick["GPUs x 2"], quick["GPUs / 2"]
    assert more is not None
    assert fewer is not None
    assert 0.5 - 1e-9 <= more < 1 < fewer
