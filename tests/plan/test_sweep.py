"""One request at many GPU counts: the counts, what each comes to, and what cannot be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.errors import InputError
from crore.plan import PlanRequest, make_plan, read_mission
from crore.plan.request import Limits
from crore.plan.search import search
from crore.plan.sweep import MOST_GPUS, bare, grid_counts, sweep

CATALOG = load_catalog()
SMALL = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", stack="crore", tokens=10**12, seq_len=8192,
    global_batch=256, limits=Limits(world_gpus=32),
)  # fmt: skip
"""Cut into worlds of 32 GPUs where there are more."""

LARGE = replace(SMALL, model="llama3-405b", limits=Limits())


def at(request, *counts):
    return list(sweep(bare(request, CATALOG), counts, catalog=CATALOG))


@pytest.mark.parametrize("own", [0, 1, 7, 20_000, 16_384, 9_999_999, MOST_GPUS, 10**9])
def test_counts_are_71_in_order_up_to_ten_million_with_the_mission_s_own(own):
    counts = grid_counts(own)
    assert len(counts) == 71
    assert list(counts) == sorted(counts)
    assert (counts[0], counts[-1]) == (1, MOST_GPUS) or own in (1, 9_999_999, MOST_GPUS)
    assert (own in counts) == (1 <= own <= MOST_GPUS)


def test_counts_lie_near_ten_steps_of_a_decade():
    targets = [10 ** (step / 10) for step in range(71)]
    ratios = [max(n / t, t / n) for n, t in zip(grid_counts(0), targets, strict=True)]
    assert max(ratios) < 1.27
    assert max(ratios[14:]) < 1.17


def test_a_cluster_gives_its_gpu_and_its_count_and_no_network():
    request = bare(PlanRequest(model="llama3-8b", cluster="deepseek-2k"), CATALOG)
    cluster = CATALOG.cluster("deepseek-2k")
    assert (request.gpu, request.gpus) == (cluster.accelerator, cluster.gpus)
    assert (request.cluster, request.fabric, request.sites) == ("", "", 0)


def test_this_machine_is_refused_in_one_line():
    with pytest.raises(InputError) as refused:
        bare(read_request("this_machine"), CATALOG)
    assert "\n" not in str(refused.value)
    assert "cannot be swept over GPU counts: name a GPU" in str(refused.value)


def read_request(name):
    return PlanRequest(**(read_mission(name) or {}))


@settings(max_examples=3)
@given(
    gpus=st.sampled_from([8, 16, 24, 32, 64, 128, 192, 1024]),
    world=st.sampled_from([32, 10_000]),
)
@example(gpus=256, world=32)
def test_a_count_of_a_sweep_is_the_plan_of_that_count_alone(gpus, world):
    """Whatever the counts before it left behind."""
    request = replace(SMALL, limits=Limits(world_gpus=world))
    swept = at(request, 64, 128, gpus)[-1].plan
    alone = make_plan(bare(replace(request, gpus=gpus), CATALOG)).plans[0]
    assert swept is not None
    assert (swept.gpus, swept.worlds, swept.islands) == (alone.gpus, alone.worlds, alone.islands)
    assert swept.layout == alone.layout
    assert swept.days == alone.days


def test_a_count_given_twice_is_searched_once(monkeypatch):
    searched = []

    def counted(q, *args, **kwargs):
        searched.append(q.gpus)
        return search(q, *args, **kwargs)

    monkeypatch.setattr("crore.plan.sweep.search", counted)
    found = at(SMALL, 8, 16, 16)
    assert searched == [8, 16]
    assert [it.gpus for it in found] == [8, 16, 16]
    assert found[1] is found[2]


def test_a_miss_says_in_a_line_what_it_needs():
    missed, held = at(LARGE, 1, 1024)
    assert missed.plan is None
    assert len(missed.reason) <= 240
    assert missed.reason.startswith("does not fit: llama3.1-405b on 1 x h100-sxm needs at least")
    assert missed.needed_bytes > missed.usable_bytes > 0
    assert held.plan is not None
    assert not held.reason
    assert held.plan.memory_bytes <= held.usable_bytes


def test_a_count_beyond_a_stack_has_a_reason():
    (found,) = at(replace(SMALL, stack="megatron-2025"), 1_000_000)
    assert found.plan is None
    assert found.needed_bytes is None
    assert 0 < len(found.reason) <= 240
    assert "\n" not in found.reason


def test_a_search_that_the_user_stops_is_no_entry(monkeypatch):
    whole = search

    def stopped(*words, **more):
        found = whole(*words, **more)
        found.interrupted = True
        return found

    monkeypatch.setattr("crore.plan.sweep.search", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(sweep(PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=8), [8]))
