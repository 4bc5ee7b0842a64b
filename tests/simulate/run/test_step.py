"""One step of a plan by events: near the planner's, on a fleet of the plan's size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.plan.explain.again import case_of
from crore.simulate import step_of, subject_of
from crore.simulate.run.step import _leaf, fleet_of

FLEETS = ("dense", "flat", "quorum", "islands", "ten_million")


@pytest.fixture(scope="module")
def spec_of(plans):
    """Return the fleet of a plan as plain numbers."""

    def made(name):
        body = plans(name)
        return fleet_of(case_of(body, "the plan").plan, subject_of(body).run)

    return made


@pytest.mark.parametrize("name", ["dense", "ten_million", "one"])
def test_a_step_played_takes_the_planned_time(plans, steps, name):
    line = steps(name).timeline
    assert line.planned_s == pytest.approx(plans(name)["step_time_s"]["value"], rel=1e-9)
    assert line.step_s == pytest.approx(line.planned_s, rel=0.03)


@pytest.mark.parametrize("name", ["one", "named"])
def test_a_plan_without_a_network_of_tiers_has_no_fleet(steps, name):
    assert steps(name).fleet is None


@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_has_the_gpus_worlds_and_islands_of_its_plan(plans, steps, spec_of, name):
    body, spec = plans(name), spec_of(name)
    assert (spec.gpus, spec.worlds, spec.islands) == (
        body["gpus"], body["worlds"], body["islands"]
    )  # fmt: skip
    fabric = body["fabric"]
    assert (spec.planes, spec.rails) == (fabric["planes"], fabric["rails"])
    fleet = steps(name).fleet
    assert fleet.island_s.shape == fleet.lost_worlds.shape == (body["islands"],)
    assert 0 <= fleet.stragglers <= body["gpus"]
    assert 0 < fleet.degraded_gpus <= body["gpus"]


@pytest.mark.parametrize("name", FLEETS)
def test_undisturbed_a_fleet_takes_the_plan_less_its_stragglers(plans, steps, name):
    body, fleet = plans(name), steps(name).fleet
    planned_s = body["step_time_s"]["value"] - body["step_split_s"]["stragglers"]
    assert fleet.ideal_s == pytest.approx(planned_s, rel=1e-9)
    assert (fleet.island_s >= fleet.ideal_s).all()


@pytest.mark.parametrize(("name", "together"), [("dense", 1), ("flat", 2)])
def test_a_world_shares_its_gradients_and_weights_once(plans, spec_of, name, together):
    """In a ring of n ranks (n-1)/n of each buffer, by all of a rank's domain together."""
    body, spec = plans(name), spec_of(name)
    layout, held = body["layout"], body["memory_split_bytes"]
    ranks = layout["dp_shard"] * layout["dp_replicate"] * layout["cp"]
    assert together == max(spec.domain_gpus // layout["tp"], 1)
    shared = (held["gradients"] + held["weights"]) * (ranks - 1) / ranks / together
    assert spec.world_bytes == pytest.approx(shared, rel=1e-6)
    assert spec.island_bytes == 0


def test_what_stays_in_a_domain_is_not_sent_over_the_network(plans, spec_of):
    """Gradients are scattered over the ranks of a sequence, in one domain; replicas sum shards."""
    body, spec = plans("ten_million"), spec_of("ten_million")
    layout = body["layout"]
    assert layout["cp"] * layout["tp"] <= spec.domain_gpus
    assert layout["dp_shard"] == 1
    copies = layout["dp_replicate"]
    summed = 2 * (copies - 1) / copies * body["memory_split_bytes"]["weights"]
    assert spec.island_bytes == pytest.approx(summed, rel=1e-6)
    assert spec.world_bytes == 0


def test_worlds_of_one_replica_send_among_worlds_alone(plans, spec_of):
    body, spec = plans("ten_million"), spec_of("ten_million")
    copies = body["worlds"] // body["islands"]
    assert body["layout"]["dp_replicate"] * body["layout"]["dp_shard"] == copies
    assert spec.world_bytes == 0 < spec.island_bytes


def test_one_seed_is_one_fleet(plans, steps):
    body = plans("islands")
    run = subject_of(body).run
    again, other = (step_of(body, run, seed).fleet for seed in (0, 1))
    once = steps("islands").fleet
    assert again is not None
    assert other is not None
    np.testing.assert_array_equal(once.island_s, again.island_s)
    assert once.degraded_gpus == again.degraded_gpus
    assert (once.island_s != other.island_s).any()


def test_gpus_are_slow_as_often_as_the_run_says(plans, spec_of):
    body = plans("islands")
    plan, run = case_of(body, "the plan").plan, subject_of(body).run
    slow = run.straggling
    specs = [fleet_of(plan, replace(run, hazard=hazard)) for hazard in (1.0, 3.0, 1e9)]
    assert specs[0] == spec_of("islands")
    frailties = [spec.frailty for spec in specs if spec is not None]
    share = slow.per_gpu_s * slow.evict_s
    assert [it.straggler_share for it in frailties] == pytest.approx([share, 3 * share, 1.0])
    assert {it.straggler_slowdown for it in frailties} == {slow.slowdown}
    none = step_of(body, replace(run, hazard=0.0), 0).fleet
    every = step_of(body, replace(run, hazard=1e9), 0).fleet
    assert none is not None
    assert every is not None
    assert (none.stragglers, every.stragglers) == (0, body["gpus"])


@given(
    radix=st.integers(16, 1024),
    taper=st.sampled_from([1.0, 0.5, 0.25, 1 / 3, 1 / 7]),
    tiers=st.integers(1, 3),
)
def test_a_leaf_has_no_more_ports_than_its_switch(plans, radix, taper, tiers):
    design = case_of(plans("flat"), "the plan").plan.network.design
    assert design is not None
    under, uplinks = _leaf(replace(design, radix=radix, taper=taper, tiers=tiers))
    assert under >= 1
    assert radix - 2 <= under + uplinks <= radix
    assert (uplinks == 0) == (tiers == 1)


@pytest.mark.parametrize(
    "key", ["request", "layout", "gpus", "gpus_available", "worlds", "islands"]
)
@pytest.mark.parametrize("how", ["missing", "null", "list", "negative", "word"])
def test_a_record_that_is_no_whole_plan_is_one_line(plans, key, how):
    body = dict(plans("islands"))
    run = subject_of(body).run
    wrong: dict[str, object] = {"null": None, "list": [], "negative": -1, "word": "x"}
    if how == "missing":
        del body[key]
    else:
        body[key] = wrong[how]
    with pytest.raises(InputError) as refused:
        step_of(body, run, 0)
    assert "\n" not in str(refused.value)
