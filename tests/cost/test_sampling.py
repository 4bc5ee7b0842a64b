"""Draws stay in their range, hit their percentiles, and depend on name and seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.sampling import normal, percentiles, triangle, two_sided, uniform


def test_a_name_and_a_seed_say_everything():
    assert (uniform("pue", 100, 1) == uniform("pue", 100, 1)).all()
    assert (uniform("pue", 100, 1) != uniform("pue", 100, 2)).any()
    assert (uniform("pue", 100, 1) != uniform("upkeep", 100, 1)).any()
    assert (normal("days", 100, 1) == normal("days", 100, 1)).all()


def test_every_stratum_has_one_draw():
    drawn = np.sort(uniform("pue", 1000))
    assert (np.floor(drawn * 1000) == np.arange(1000)).all()


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1))
def test_a_triangle_stays_inside_and_rises(a, b, c, chance):
    low, value, high = sorted((a, b, c))
    drawn = float(triangle(low, value, high, chance))
    assert low - 1e-9 <= drawn <= high + 1e-9
    assert drawn <= float(triangle(low, value, high, min(chance + 0.1, 1.0))) + 1e-6 * high


def test_a_triangle_has_its_mean():
    drawn = triangle(1.0, 2.0, 6.0, uniform("x", 10_000))
    assert drawn.mean() == pytest.approx(3.0, abs=0.005)


def test_two_sided_draws_have_the_interval_they_are_given():
    drawn = two_sided(80.0, 100.0, 200.0, normal("days", 100_000))
    assert percentiles(drawn) == pytest.approx((80.0, 100.0, 200.0), rel=0.02)
    assert (two_sided(5.0, 5.0, 5.0, normal("days", 10)) == 5.0).all()


def test_percentiles_of_what_may_never_be():
    values = [1.0, 2.0, 3.0, 4.0, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf]
    assert percentiles(values) == (1.0, np.inf, np.inf)
