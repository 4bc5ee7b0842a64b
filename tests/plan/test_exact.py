"""The search by bounds finds what pricing everything finds: time, layout and the runners-up."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plan.brute import (
    NOISE,
    Brute,
    brute_force,
    columns,
    crore_mission,
    every_cell,
    fleet,
    key,
    large_mission,
    mission,
)

from crore.plan.candidates import joined
from crore.plan.request import Limits, PlanRequest
from crore.plan.resolve import resolve
from crore.plan.search import search

LARGE = 100_000
"""Settings that are priced, every one of them, in a large mission."""
SEEDS = (46, 14, 37, 51, 44, 34, 19, 41, 53, 13, 69, 0, 31, 43, 1, 54, 59, 39, 8, 25, 62, 47, 27)
"""Of `large_mission`, with 105,072 to 248,648 settings."""


@pytest.fixture(scope="module")
def tally():
    """Count what was compared, and tell it at the end (`pytest -s`)."""
    count: Counter[str] = Counter()
    yield count
    print("\nsearch against brute force:", dict(count))


def compare(request: PlanRequest, tally: Counter[str]) -> Brute:
    """Assert that the search and brute force agree on all plans asked for."""
    q = resolve(request)
    found, brute = search(q), brute_force(q)
    got = [(it, columns(joined([it.candidate], [1]))) for it in found.ranked]
    want = brute.ranked(request.top)
    assert [(key(family[:, 0]), key(rest[:, 0])) for _, (family, rest) in got] == [
        (family, rest) for _, family, rest in want
    ]
    assert [it.run_s for it, _ in got] == pytest.approx([run for run, _, _ in want], rel=NOISE)
    assert sum(found.rejected.values()) + found.kept == found.candidates
    assert found.evaluated <= found.candidates
    if not q.is_fleet:  # grid points of a fleet fall before their ranks are counted
        assert found.candidates == every_cell(q).total >= brute.priced
    tally.update(missions=1, feasible=bool(got), priced=brute.priced, fit=brute.fit)
    tally["largest"] = max(tally["largest"], brute.priced)
    return brute


@settings(max_examples=170)
@given(data=st.data())
def test_the_best_of_one_world_is_the_best_of_all_settings(data, tally):
    compare(mission(lambda values: data.draw(st.sampled_from(values))), tally)


@settings(max_examples=60)
@given(data=st.data())
def test_the_best_that_the_trainer_runs_is_the_best_of_what_is_left(data, tally):
    compare(crore_mission(lambda values: data.draw(st.sampled_from(values))), tally)


@settings(max_examples=80)
@given(data=st.data())
def test_the_best_of_a_fleet_is_the_best_of_all_settings(data, tally):
    compare(fleet(lambda values: data.draw(st.sampled_from(values))), tally)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_of_a_hundred_thousand_settings_is_found(seed, tally):
    choose = random.Random(seed).choice  # noqa: S311 - a draw that is the same every time
    assert compare(large_mission(choose), tally).priced >= LARGE


@pytest.mark.parametrize("model", ["deepseek-v3-l4", "llama3-70b-l12", "deepseek-v2-l4"])
def test_plans_that_all_wait_for_the_outer_step_tie(model, tally):
    """Twenty islands on a thin ocean link: steps of any length make rounds of the same length."""
    compare(
        PlanRequest(
            model=model, gpu="gb200-nvl72", gpus=64, stack="crore", tokens=10**10, seq_len=512,
            global_batch=256, top=4, sites=20, wan="wan-ocean", limits=Limits(world_gpus=8),
        ),
        tally,
    )  # fmt: skip
