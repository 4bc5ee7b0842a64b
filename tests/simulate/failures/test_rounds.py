"""Stragglers and repairs, against loops that follow each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.simulate.failures.event_by_event import Slow, short_of_spares, slowed
from tests.simulate.failures.fleets import fleet, only_failures

from crore.simulate.failures import goodput
from crore.simulate.failures.rates import expected_missing, poisson, rates
from crore.simulate.failures.rounds import finishing, law_of_round


def straggling(islands, evict_s, rate=2e-9):
    run = only_failures(1e6, 1.0, islands, hazards=())
    slow = replace(run.straggling, per_gpu_s=rate, slowdown=1.5, evict_s=evict_s)
    return replace(run, straggling=slow, stall_s=0.0)


@pytest.mark.parametrize(("islands", "evict_s"), [(1, 2000.0), (8, 2000.0), (8, 20_000.0)])
def test_a_straggler_that_lasts_many_rounds_slows_each_of_them(islands, evict_s):
    """A state that goes on makes rounds alike, but none longer on average.

    Two per cent of a margin: a straggler that comes or goes within a round slows a part of it.
    """
    run = straggling(islands, evict_s)
    case = Slow(arrivals=2e-9 * 1e6 / islands, slowdown=1.5, evict_s=evict_s)
    found = [slowed(case, 400.0, islands, 4000, seed) for seed in range(4)]
    closed = float(goodput(run, "islands-barrier").goodput)
    assert closed == pytest.approx(np.mean(found), rel=0.02)


def test_a_group_with_a_straggler_keeps_its_share_of_speed():
    """(1 + rE/f)/(1 + rE): alternating renewal."""
    run = straggling(1, 1000.0)
    busy = 2e-9 * 1e6 * 1000.0
    for policy in ("quorum", "islands-barrier", "islands-free"):
        share = float(goodput(run, policy).goodput)
        assert share == pytest.approx((1 + busy / 1.5) / (1 + busy), rel=1e-9)


def test_the_law_of_a_round_is_a_law():
    law = law_of_round(fleet(10_000_000, 3.0))
    assert law.chance.sum() == pytest.approx(1, abs=1e-12)
    assert (np.diff(law.late_s) >= 0).all()
    r = rates(fleet(10_000_000, 3.0), 500_000.0)
    running_s = 660 * (1 + r.slow * 0.07)
    mean = float(law.chance @ (law.stall_s + law.straggler_s)) - (running_s - 660)
    assert mean == pytest.approx((r.failures + r.evictions) * running_s * 10, rel=1e-9)


@pytest.mark.parametrize(("islands", "needed"), [(1, 1), (9, 9), (10, 9), (20, 18), (100, 90)])
def test_nine_in_ten_islands_are_waited_for(islands, needed):
    assert finishing(only_failures(1e6, 1.0, islands)) == needed


@pytest.mark.parametrize("mean", [0.0, 1e-9, 0.3, 25.0, 4000.0])
def test_counts_taken_together_keep_their_mean_and_spread(mean):
    for points in (1 << 20, 200):
        counts, chances = poisson(mean, points)
        assert counts.size <= points
        assert chances.sum() == pytest.approx(1, abs=1e-12)
        assert counts @ chances == pytest.approx(mean, rel=1e-9, abs=1e-15)
        spread = counts**2 @ chances - mean**2
        assert spread == pytest.approx(mean, rel=0.01, abs=1e-12)


@pytest.mark.parametrize(("spares", "drain"), [(0, 8), (3, 8), (6, 8)])
def test_want_of_spares_is_that_of_machines_one_by_one(spares, drain):
    """1,024 GPUs in four worlds: one machine too many stops a world."""
    run = only_failures(1024.0, 256.0)
    repaired = replace(run.spares, share=spares * drain / 1024, drain_gpus=drain, repair_s=2e5)
    broken = tuple(replace(hazard, permanent=1.0) for hazard in run.hazards)
    run = replace(run, hazards=broken, spares=repaired, hazard=3.0)
    rate = 3 * run.failures_per_gpu_s * 1024
    found = [short_of_spares(rate, 2e5, spares, 4, 128, 4000, seed) for seed in range(8)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(expected_missing(run) - np.mean(found)) < 3 * error < 0.02
