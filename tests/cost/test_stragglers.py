"""Waiting for the slowest of N grows as the expected maximum of N normals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.stragglers import (
    STEP_NOISE,
    barrier_slowdown,
    expected_maximum,
    local_steps_slowdown,
)


@pytest.mark.parametrize(
    ("ranks", "deviations"),
    [(16_384, 3.99), (100_000, 4.40), (1_000_000, 4.88), (10_000_000, 5.31)],
)
def test_the_slowest_is_this_many_deviations_out(ranks, deviations):
    assert expected_maximum(float(ranks)) == pytest.approx(deviations, abs=0.01)


@pytest.mark.parametrize("ranks", [64, 1024, 16_384])
def test_the_formula_agrees_with_drawn_samples(ranks):
    drawn = np.random.default_rng(7).standard_normal((500, ranks)).max(axis=1)
    assert expected_maximum(float(ranks)) == pytest.approx(drawn.mean(), abs=0.08)


def test_one_rank_waits_for_nobody():
    assert barrier_slowdown(1.0) == 1.0


def test_ten_million_ranks_with_two_percent_noise_lose_a_tenth():
    assert barrier_slowdown(1e7, noise=0.02) == pytest.approx(1.106, abs=0.001)


@given(ranks=st.integers(3, 10**7), more=st.integers(1, 10**6))
def test_more_ranks_never_wait_less(ranks, more):
    assert expected_maximum(float(ranks + more)) >= expected_maximum(float(ranks))


def test_the_noise_keeps_published_weak_scaling_flat():
    """NVIDIA DGX Cloud: 8 to 512 H100 within two percent."""
    ratio = barrier_slowdown(512.0) / barrier_slowdown(8.0)
    assert 1 < ratio < 1.02
    assert 1 + STEP_NOISE * expected_maximum(512.0) == barrier_slowdown(512.0)


def test_a_hundred_local_steps_leave_a_tenth_of_the_noise():
    """2 % at ten million ranks: 10.6 % when every step waits, 1.1 % when every hundredth does."""
    assert local_steps_slowdown(1e7, 1.0, noise=0.02) == barrier_slowdown(1e7, noise=0.02)
    assert local_steps_slowdown(1e7, 100.0, noise=0.02) == pytest.approx(1.0106, abs=1e-4)


def test_the_slowest_sum_of_drawn_steps_is_this_late():
    steps = np.random.default_rng(2).normal(1.0, 0.02, (400, 256, 16)).sum(axis=2)
    drawn = steps.max(axis=1).mean() / 16
    assert local_steps_slowdown(256.0, 16.0, noise=0.02) == pytest.approx(drawn, abs=0.001)
