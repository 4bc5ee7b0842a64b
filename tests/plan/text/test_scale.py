"""An axis: values keep their order and their ends, ticks are round and on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.plan.text.scale import Scale

values = st.lists(st.floats(1e-6, 1e15), min_size=1, max_size=10)


@given(values, st.sampled_from([None, True, False]))
def test_every_value_is_on_its_axis_in_order(given_values, log):
    scale = Scale.over(given_values, 0, 100, log=log)
    places = [scale(value) for value in sorted(given_values)]
    assert places == sorted(places)
    assert 0 <= places[0] <= places[-1] <= 100


@given(values, st.integers(2, 9))
def test_ticks_ascend_on_the_axis_and_are_few(given_values, most):
    scale = Scale.over(given_values, 0, 100)
    ticks = scale.ticks(most)
    assert 1 <= len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(scale.low * (1 - 1e-9) <= tick <= scale.high * (1 + 1e-9) for tick in ticks)


def test_wide_values_are_drawn_by_decades_and_near_ones_evenly():
    assert Scale.over([1, 1000], 0, 1).ticks() == [1, 10, 100, 1000]
    assert Scale.over([20, 600], 0, 1).ticks() == [20, 50, 100, 200, 500]
    assert Scale.over([610_000, 675_000], 0, 1).ticks() == [620_000, 640_000, 660_000]


def test_an_axis_upwards_runs_from_its_floor():
    scale = Scale(low=1, high=100, start=200, end=0, log=True)
    assert [scale(1), scale(10), scale(100)] == pytest.approx([200, 100, 0])


def test_zero_and_below_are_never_logarithmic():
    assert not Scale.over([0, 5, 1000], 0, 1).log
    assert not Scale.over([-1, 1000], 0, 1).log
