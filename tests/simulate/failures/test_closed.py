"""Closed forms: the known tables, one event at a time, and what no parameters can do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulate.failures.event_by_event import Restarts, elastic, islands, quorum, restarted
from tests.simulate.failures.fleets import fleet, only_failures, runs

from crore.cost.goodput import quorum_goodput, restart_goodput
from crore.cost.islands import OUTAGE_EVERY_S, Policy, islands_goodput
from crore.errors import UnknownName
from crore.simulate.failures import CAUSES, POLICIES, goodput, run_distribution
from crore.simulate.failures.closed import interval_s
from crore.simulate.failures.rates import rates

RESTARTS = ("restart-disk", "restart-peer", "hot-spares")


def share(run, policy):
    return float(goodput(run, policy).goodput)


@pytest.mark.parametrize(
    ("gpus", "row"),
    [(16_384, (0.880, 0.955, 0.994)), (100_000, (0.597, 0.841, 0.976)),
     (1_000_000, (0.020, 0.292, 0.829)), (10_000_000, (0.0, 0.0, 0.179))],
)  # fmt: skip
def test_restarting_all_of_them_ends_at_a_million(gpus, row):
    """Storage, peers' memory, peers' memory and spares, at the best interval (Daly 2006)."""
    run = only_failures(gpus, 1024)
    assert [share(run, policy) for policy in RESTARTS] == pytest.approx(row, abs=6e-4)


def test_a_checkpoint_cannot_come_before_the_step_ends():
    """Ten million with spares: 0.179 needs a checkpoint every 1.3 s, a step takes 13.2."""
    free = only_failures(10_000_000, 1024)
    assert interval_s(free, free.hot, 1 / free.mtbf_s) == pytest.approx(1.318, abs=0.001)
    assert share(replace(free, step_s=13.2), "hot-spares") == pytest.approx(0.1309, abs=5e-5)


@pytest.mark.parametrize(
    ("stall_s", "row"),
    [(180, (0.89, 0.71, 0.49, 0.23, 0.09, 0.03)), (30, (0.96, 0.88, 0.84, 0.62, 0.37, 0.16)),
     (5, (0.97, 0.92, 0.95, 0.86, 0.76, 0.51)), (1, (0.97, 0.92, 0.97, 0.91, 0.92, 0.80)),
     (0.1, (0.97, 0.93, 0.97, 0.92, 0.97, 0.91))],
)  # fmt: skip
def test_a_quorum_lives_by_its_stall(stall_s, row):
    found = [
        share(only_failures(gpus, 8192, stall_s=float(stall_s), hazard=hazard), "quorum")
        for gpus in (1e5, 1e6, 1e7)
        for hazard in (1.0, 3.0)
    ]
    np.testing.assert_allclose(found, row, atol=0.0101)


def test_rebuilding_at_every_change_is_exponential_in_the_changes():
    """0.5780 with ten seconds a failure at ten million; five for the drop, five for the return."""
    run = only_failures(10_000_000, 1.0, rebuild_s=5.0, absent_s=0.0)
    assert share(run, "elastic") == pytest.approx(0.5780, abs=5e-5)


@pytest.mark.parametrize("hazard", [1.0, 3.0])
@pytest.mark.parametrize("stall_s", [60.0, 10.0, 1.0])
@pytest.mark.parametrize("count", [1, 20, 100, 400])
def test_islands_are_those_of_the_planner(count, stall_s, hazard):
    """Barrier and free are the same forms; its quorum is an approximation, within 0.002."""
    sites = fleet(10_000_000).sites
    run = only_failures(1e7, 4608, count, stall_s=stall_s, hazard=hazard, sites=sites)
    assert sites.every_s == OUTAGE_EVERY_S
    forms: tuple[tuple[Policy, float], ...] = (("barrier", 1e-9), ("quorum", 2e-3), ("free", 1e-9))
    for policy, far in forms:
        planned = islands_goodput(
            1e7, float(count), 4608.0, 400.0, policy, stall_s=stall_s, absent_s=600.0, hazard=hazard
        )  # fmt: skip
        assert share(run, f"islands-{policy}") == pytest.approx(float(planned), abs=far), policy


def test_one_world_is_that_of_the_planner():
    run = only_failures(1e6, 8192, hazard=2.0)
    same = restart_goodput(1e6, run.disk.write_s, run.disk.restart_s, 2.0)
    assert share(run, "restart-disk") == pytest.approx(float(same), rel=1e-9)
    same = quorum_goodput(1e6, 8192.0, run.stall_s, run.absent_s, 2.0)
    assert share(run, "quorum") == pytest.approx(float(same), rel=1e-9)


def everything_but_stragglers():
    run = fleet(100_000, 2.0)
    return replace(
        run,
        straggling=replace(run.straggling, per_gpu_s=0.0),
        planned=replace(run.planned, every_s=math.inf),
        sites=replace(run.sites, every_s=400_000.0, away_s=5_000.0),
        spares=replace(run.spares, repair_s=0.0),
        silent=replace(run.silent, per_gpu_s=1e-9, detect_s=600.0),
    )


@pytest.mark.parametrize("policy", ["restart-disk", "restart-peer", "hot-spares"])
def test_restarts_are_those_of_events_one_by_one(policy):
    """Failures, outages, silent corruption, cold machines; a restart that fails starts again.

    Draws have the mean and the spread of runs that are followed event by event.
    """
    run = everything_but_stragglers()
    how = {"restart-disk": run.disk, "restart-peer": run.peer, "hot-spares": run.hot}[policy]
    r, outages = rates(run, run.gpus), run.islands / run.sites.every_s
    memory = policy != "restart-disk"
    case = Restarts(
        failures=r.failures, outages=outages, silent=r.silent, write_s=how.write_s,
        restart_s=how.restart_s, work_s=interval_s(run, how, r.failures + outages + r.silent),
        replace_s=0.0 if policy == "hot-spares" else run.permanent * run.spares.replace_s,
        outage_s=5_000.0, detect_s=600.0, storage_every_s=10_800.0 * memory,
        reload_s=run.disk.restart_s * memory,
    )  # fmt: skip
    found = np.array([restarted(case, 1_000, seed) for seed in range(96)])
    error = found.std(ddof=1) / np.sqrt(found.size)
    assert abs(share(run, policy) - found.mean()) < 3 * error < 0.01
    work_s = 1_000 / (r.failures + outages + r.silent) * interval_share(case)
    drawn = run_distribution(run, policy, work_s, draws=1000, seed=5)
    assert drawn.goodput.std() == pytest.approx(found.std(ddof=1), rel=0.25)


def interval_share(case):
    """Return the work done per second of running."""
    every = case.failures + case.outages + case.silent
    return case.work_s * every / math.expm1(every * (case.work_s + case.write_s))


def test_elastic_is_that_of_drops_and_returns_one_by_one():
    run = only_failures(1e6, 1.0, rebuild_s=60.0, absent_s=0.0)
    found = [elastic(1 / run.mtbf_s, 60.0, 600.0, 20_000, seed) for seed in range(20)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(share(run, "elastic") - np.mean(found)) < 3 * error < 0.01


def test_quorum_is_that_of_failures_and_absences_one_by_one():
    run = only_failures(1e6, 10_000.0, stall_s=30.0, absent_s=3_000.0)
    found = [quorum(1 / run.mtbf_s, 30.0, 100, 3_000.0, 5_000, seed) for seed in range(20)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(share(run, "quorum") - np.mean(found)) < 3 * error < 0.01


@pytest.mark.parametrize(("policy", "wait_for"), [("islands-barrier", 20), ("islands-quorum", 18)])
def test_islands_are_those_of_failures_one_by_one(policy, wait_for):
    run = only_failures(1e7, 1.0, 20, stall_s=60.0, absent_s=0.0)
    found = [islands(1 / run.mtbf_s / 20, 60.0, 400.0, wait_for, 20, 400, s) for s in range(12)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(share(run, policy) - np.mean(found)) < 3 * error < 0.01


@pytest.mark.parametrize(
    ("islands_", "detect_s", "loss"),
    [(1, 600.0, 0.3202), (20, 600.0, 0.0230), (100, 600.0, 0.0047), (20, 16.0, 0.00063)],
)
def test_silent_corruption_costs_the_time_until_it_is_noticed(islands_, detect_s, loss):
    """Six in 54 days on 16,384 GPUs: a third of ten million's time, or nothing on 100 islands."""
    run = only_failures(1e7, 1.0, islands_, hazards=())
    silent = replace(run.silent, per_gpu_s=7.849e-11, detect_s=detect_s, rollback_s=0.0)
    found = goodput(replace(run, silent=silent), "islands-free")
    assert float(found.losses["silent corruption"]) == pytest.approx(loss, abs=2e-4)


def test_waiting_for_fewer_keeps_more_of_everything_that_happens():
    run = fleet(10_000_000)
    barrier, most, free = (share(run, f"islands-{p}") for p in ("barrier", "quorum", "free"))
    assert barrier < most < free


def test_a_quorum_does_no_more_than_islands_alone():
    """400 islands, stalls of 60 s: 95 in 100 have none in a round, so that nobody waits."""
    run = only_failures(1e7, 1.0, 400, stall_s=60.0, absent_s=0.0)
    assert share(run, "islands-quorum") == pytest.approx(share(run, "islands-free"), rel=1e-12)
    drawn = run_distribution(run, "islands-quorum", 1e6, draws=200)
    assert drawn.goodput.mean() == pytest.approx(share(run, "islands-free"), abs=5e-4)


def test_a_run_that_nothing_befalls_loses_nothing():
    run = only_failures(1e6, 1024.0, 4, hazards=())
    for policy in POLICIES:
        assert share(run, policy) == pytest.approx(1.0, abs=1e-9), policy


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean quorum"):
        goodput(fleet(100_000), "quorums")  # type: ignore[arg-type]


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(run=runs(), more=st.floats(1.0, 4.0), policy=st.sampled_from(POLICIES))
def test_shares_are_shares_and_more_failures_never_help(run, more, policy):
    """1,000 sets of parameters; monotone in closed form, with which the draws agree."""
    found, harder = goodput(run, policy), goodput(replace(run, hazard=run.hazard * more), policy)
    parts = [float(found.goodput), *(float(found.losses[cause]) for cause in CAUSES)]
    assert all(0 <= part <= 1 for part in parts), parts
    assert sum(parts) == pytest.approx(1.0, abs=1e-9)
    assert float(harder.goodput) <= float(found.goodput) * (1 + 1e-9)
    barrier, most, free = (share(run, p) for p in POLICIES[-3:])
    assert barrier <= free * (1 + 1e-9)
    assert most <= free * (1 + 1e-9)
