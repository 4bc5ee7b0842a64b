"""Waiting for the slowest of N grows as the expected maximum of N normals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.stragglers import STEP_NOISE, barrier_slowdown, expected_maximum


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
