"""A world that restarts whole loses its time to failures as it grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.goodput import (
    DISK,
    PEER_MEMORY,
    availability,
    mean_time_between_failures_s,
    quorum_goodput,
    restart_goodput,
)


def test_ten_million_gpus_fail_every_eighteen_seconds():
    assert mean_time_between_failures_s(1e7) == pytest.approx(18.2, abs=0.05)


def test_llama_3s_cluster_failed_every_three_hours():
    """419 unexpected interruptions in 54 days on 16,384 H100 (arXiv 2407.21783 §3.3.4)."""
    assert mean_time_between_failures_s(16_384.0) / 3600 == pytest.approx(3.09, abs=0.01)


@pytest.mark.parametrize("gpus", [16_384.0, 100_000.0, 1e6])
@pytest.mark.parametrize("case", [DISK, PEER_MEMORY])
def test_no_checkpoint_interval_does_better(gpus, case):
    checkpoint_s, restart_s = case
    mtbf = float(mean_time_between_failures_s(gpus))

    def goodput(tau):
        return tau / (mtbf * math.exp(restart_s / mtbf) * math.expm1((tau + checkpoint_s) / mtbf))

    tried = max(goodput(tau) for tau in np.geomspace(1e-3, 1e6, 20_000)
                if tau + checkpoint_s < 600 * mtbf)  # fmt: skip
    best = float(restart_goodput(gpus, checkpoint_s, restart_s))
    assert best == pytest.approx(tried, rel=1e-5)
    assert best >= tried * (1 - 1e-9)


def test_one_world_of_ten_million_that_restarts_makes_no_progress():
    assert float(restart_goodput(1e7, *DISK)) < 0.005
    assert float(restart_goodput(1e7, *PEER_MEMORY)) == pytest.approx(0.18, abs=0.01)


@given(gpus=st.floats(1.0, 1e7), more=st.floats(1.01, 10.0))
def test_more_gpus_never_waste_less(gpus, more):
    small, large = np.asarray(restart_goodput(np.array([gpus, gpus * more]), *PEER_MEMORY))
    assert 0 <= large <= small <= 1


def test_a_threefold_hazard_is_threefold_the_gpus():
    tripled = mean_time_between_failures_s(1e6, hazard=3.0)
    assert tripled == pytest.approx(mean_time_between_failures_s(3e6))
    assert restart_goodput(1e5, *DISK, hazard=3.0) == pytest.approx(restart_goodput(3e5, *DISK))


@pytest.mark.parametrize(
    ("gpus", "once", "thrice"),
    [(72, 0.9998, 0.9993), (576, 0.998, 0.994), (4608, 0.985, 0.957), (8192, 0.974, 0.925),
     (131_072, 0.70, 0.44)],
)  # fmt: skip
def test_a_large_world_is_often_absent(gpus, once, thrice):
    """Ten minutes of absence per failure: worlds of more than 5,000 GPUs lose percents."""
    assert availability(gpus, 600.0) == pytest.approx(once, abs=0.005)
    assert availability(gpus, 600.0, 3.0) == pytest.approx(thrice, abs=0.005)


def test_availability_is_that_of_a_world_that_fails_and_returns():
    rng, mtbf = np.random.default_rng(3), float(mean_time_between_failures_s(131_072))
    up, down = rng.exponential(mtbf, 200_000), rng.exponential(600.0, 200_000)
    assert availability(131_072, 600.0) == pytest.approx(up.sum() / (up + down).sum(), abs=0.002)


@pytest.mark.parametrize(
    ("stall", "row"),
    [(180, (0.89, 0.71, 0.49, 0.23, 0.09, 0.03)), (30, (0.96, 0.88, 0.84, 0.62, 0.37, 0.16)),
     (5, (0.97, 0.92, 0.95, 0.86, 0.76, 0.51)), (1, (0.97, 0.92, 0.97, 0.91, 0.92, 0.80)),
     (0.1, (0.97, 0.93, 0.97, 0.92, 0.97, 0.91))],
)  # fmt: skip
def test_what_survives_is_set_by_the_stall(stall, row):
    """100 k, 1 M and 10 M GPUs in worlds of 8,192, each at one and three times the hazard."""
    gpus, hazard = np.repeat([1e5, 1e6, 1e7], 2), np.tile([1.0, 3.0], 3)
    found = quorum_goodput(gpus, 8192.0, stall, 600.0, hazard)
    np.testing.assert_allclose(found, row, atol=0.0101)


def test_the_dead_time_is_that_of_failures_drawn_one_by_one():
    """Ten million GPUs, ten seconds: 0.6459 by the formula, failures within a stall end with it."""
    rng, mtbf = np.random.default_rng(1), float(mean_time_between_failures_s(1e7))
    arrivals = np.cumsum(rng.exponential(mtbf, 20_000))
    working, now = 0.0, 0.0
    for arrival in arrivals:
        working += max(arrival - now, 0.0)
        now = arrival + 10.0 if arrival >= now else now
    found = float(quorum_goodput(1e7, 0.0, 10.0, 600.0))
    assert found == pytest.approx(0.6459, abs=5e-4)
    assert found == pytest.approx(working / float(arrivals[-1]), abs=0.006)


def test_published_fault_tolerant_training_implies_a_harder_life_than_llama_3s():
    """arXiv 2602.00277, 100 k GPUs: 44 % with stalls of 10 minutes, 80 % with 3."""
    for stall, published, hazard in ((600.0, 0.44, 3.9), (180.0, 0.80, 2.5)):
        found = quorum_goodput(1e5, 0.0, stall, 0.0, hazard)
        assert found == pytest.approx(published, abs=0.003)
