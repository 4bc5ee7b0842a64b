"""Monte-Carlo and closed forms are two answers to one question, and must agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.simulate.failures.fleets import fleet, only_failures, runs

from crore.simulate.failures import CAUSES, POLICIES, Hazard, goodput, run_distribution

SIZES = (16_384, 100_000, 1_000_000, 10_000_000)
HUNDRED_DAYS_S = 100 * 86_400.0


@pytest.mark.parametrize("hazard", [1.0, 3.0])
@pytest.mark.parametrize("gpus", SIZES)
@pytest.mark.parametrize("policy", POLICIES)
def test_draws_agree_with_the_closed_form(policy, gpus, hazard):
    """Within three standard errors of the mean time a run takes, everything happening."""
    run = fleet(gpus, hazard)
    drawn = run_distribution(run, policy, HUNDRED_DAYS_S, draws=1000, seed=1)
    closed = goodput(run, policy)
    gap = np.mean(1 / np.maximum(drawn.goodput, 1e-300)) - 1 / float(closed.goodput)
    assert abs(gap) < 3 * drawn.inverse_error
    for cause in CAUSES:
        assert drawn.losses[cause] == pytest.approx(float(closed.losses[cause]), abs=0.001), cause


def test_a_domain_takes_all_its_worlds_in_both():
    """Racks of 72 alone fail, worlds are trays of 8: nine are away at once."""
    rack = Hazard(name="rack", domain="rack", domain_gpus=72.0, per_gpu_s=1e-8)
    run = only_failures(1e5, 8.0, 4, hazards=(rack,), absent_s=6000.0)
    drawn = run_distribution(run, "islands-free", HUNDRED_DAYS_S, draws=1000, seed=1)
    gap = np.mean(1 / drawn.goodput) - 1 / float(goodput(run, "islands-free").goodput)
    assert abs(gap) < 3 * drawn.inverse_error < 1e-4


@settings(max_examples=150, deadline=None, derandomize=True)
@given(run=runs())
def test_no_draw_leaves_the_unit_interval(run):
    for policy in POLICIES:
        drawn = run_distribution(run, policy, 5 * 86_400.0, draws=3, seed=2)
        assert np.isfinite(drawn.goodput).all()
        assert ((drawn.goodput >= 0) & (drawn.goodput <= 1)).all()
        assert sum(drawn.losses.values()) + drawn.goodput.mean() == pytest.approx(1, abs=1e-9)
