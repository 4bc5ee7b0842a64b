"""When to start: closed forms for linear and exponential fleets against the general optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.start import (
    batch_shares,
    elastic_finish,
    linear_elastic,
    linear_rigid,
    longest_rigid_years,
    rigid_start,
    slowest_share,
    start_now,
)
from crore.cost.supply import Ramp, fleet_speed
from crore.errors import InputError

YEARS = np.linspace(0.0, 40.0, 40_001)
B200_YEAR = 1.4e15 * 0.9 * 365 * 86_400
"""FLOP of a B200-class part in a year."""


@given(st.floats(0.1, 50.0), st.floats(0.5, 10.0))
def test_elastic_over_rigid_is_one_over_root_two(work, rate):
    speed = rate * YEARS
    rigid, elastic = rigid_start(YEARS, speed, work), elastic_finish(YEARS, speed, work)
    start, finish = linear_rigid(work, rate)
    assert rigid.start == pytest.approx(float(start), rel=0.05, abs=0.002)
    assert rigid.finish == pytest.approx(float(finish), rel=1e-4)
    assert elastic.finish == pytest.approx(float(linear_elastic(work, rate)), rel=1e-4)
    assert elastic.finish / rigid.finish == pytest.approx(1 / math.sqrt(2), rel=2e-4)


def test_the_worked_example():
    """1.1e29 FLOP on a million B200 a year: rigid 1.66 to 3.33 years, elastic 2.35."""
    rate = 1e6 * B200_YEAR
    start, finish = linear_rigid(1.1e29, rate)
    assert start == pytest.approx(1.66, abs=0.01)
    assert finish == pytest.approx(3.33, abs=0.01)
    assert linear_elastic(1.1e29, rate) == pytest.approx(2.35, abs=0.01)


def test_with_growth_faster_parts_and_wear():
    """20 % more and 2x in two years, 4 % attrition, 5 years of life: 2.73 against 1.97 years."""
    ramp = Ramp(starts=(0.0,), units_per_year=(1e6,), growth=(math.log(1.2),), attrition=0.04,
                life_years=5.0, gain=math.log(2) / 2)  # fmt: skip
    speed = np.asarray(fleet_speed(ramp, YEARS)) * B200_YEAR
    assert rigid_start(YEARS, speed, 1.1e29).finish == pytest.approx(2.73, abs=0.01)
    assert elastic_finish(YEARS, speed, 1.1e29).finish == pytest.approx(1.97, abs=0.01)


def test_no_rigid_run_is_longer_than_one_over_growth():
    growth = math.log(2) / 2 + math.log(1.2)
    speed = np.exp(growth * YEARS)
    best = rigid_start(YEARS, speed, 50.0)
    assert best.finish - best.start == pytest.approx(float(longest_rigid_years(growth)), rel=1e-3)
    assert 12 * longest_rigid_years(growth) == pytest.approx(22.7, abs=0.1)


@given(st.lists(st.floats(0.0, 5.0), min_size=5, max_size=30), st.floats(0.1, 5.0))
def test_elastic_is_never_later_on_a_fleet_that_grows(gains, work):
    speed = np.cumsum([0.01, *gains])
    years = np.arange(speed.size, dtype=float)
    elastic, rigid = elastic_finish(years, speed, work), rigid_start(years, speed, work)
    assert elastic.finish <= rigid.finish + 1e-9 or math.isinf(elastic.finish)
    assert rigid.finish <= start_now(years, speed, work, 0.0).finish + 1e-9


def test_a_fleet_that_is_too_slow_never_ends():
    assert math.isinf(elastic_finish(YEARS, np.zeros_like(YEARS), 1.0).finish)
    assert math.isinf(start_now(YEARS, YEARS, 1.0, 0.0).finish)


def test_batches_by_speed_lose_nothing_to_the_slowest():
    units, speeds = np.array([2e6, 1e6, 0.0]), np.array([1.0, 4.0, 9.0])
    assert batch_shares(units, speeds) == pytest.approx([1 / 3, 2 / 3, 0])
    assert slowest_share(units, speeds) == pytest.approx(3e6 / 6e6)
    assert slowest_share(np.array([5.0]), np.array([7.0])) == 1.0


@pytest.mark.parametrize("work", [0.0, -1.0, math.inf])
def test_a_run_without_work_is_refused(work):
    with pytest.raises(InputError, match="work above 0"):
        rigid_start(YEARS, YEARS, work)


def test_times_that_do_not_rise_and_empty_fleets_are_refused():
    with pytest.raises(InputError, match="times rise"):
        elastic_finish(np.zeros(3), np.ones(3), 1.0)
    with pytest.raises(InputError, match="below 0"):
        elastic_finish(np.arange(3.0), -np.ones(3), 1.0)
    with pytest.raises(InputError, match="of which there are some"):
        batch_shares(np.zeros(2), np.ones(2))
