"""A scenario's caps by year become deliveries: the least cap, the buyer's share, growth after."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crore.catalog.supply import scenario
from crore.cost.reach import drawn_years, reach_of
from crore.cost.scenario import Course, middle, ramp_of, sampled
from crore.cost.supply import delivered_per_year, fleet_units


def course(name="announced", **own):
    return Course(scenario=scenario(name), own=own)


def test_the_announced_deliveries_pass_through_their_knots():
    made = ramp_of(course(buyer_share=1.0), middle)
    assert delivered_per_year(made, 2027.5 - 2026.9) == pytest.approx(6.7e6)
    between = 5.8e6 * (6.7 / 5.8) ** 0.4
    assert delivered_per_year(made, 0.0) == pytest.approx(between)
    assert delivered_per_year(made, 3.6) == pytest.approx(6.7e6 * 1.15**3)


def test_the_least_cap_is_supplied():
    """Wafers at 61 % give fewer packages than memory stacks do in the middle course."""
    it = scenario("foundry")
    made = ramp_of(Course(scenario=it, own={"buyer_share": 1.0}), middle)
    rate = float(np.asarray(delivered_per_year(made, 0.1)))
    memory = 155e6 / 8 * 0.61
    assert 4e6 < rate < memory


def test_a_share_scales_deliveries():
    half, whole = (ramp_of(course(buyer_share=s)) for s in (0.5, 1.0))
    assert fleet_units(half, 5.0) == pytest.approx(0.5 * fleet_units(whole, 5.0))


def test_a_user_s_own_rate_stands_for_all_caps():
    made = ramp_of(course("foundry", units_per_year=1e6, buyer_share=1.0, growth_per_year=0.0,
                          attrition_per_year=0.0, life_years=100.0))  # fmt: skip
    assert fleet_units(made, 10.0) == pytest.approx(1e7)


def test_the_article_never_gets_there_and_says_why():
    found = reach_of(course("article"), 1e7, draws=200)
    assert math.isinf(found.likely)
    assert found.most == pytest.approx(4.53e6, rel=0.01)
    assert found.never.startswith("1M units a year")
    assert "4.53M GPUs" in found.never
    assert "4.0% of the fleet" in found.never
    assert found.reached == 0.0
    assert all(math.isfinite(years) for _, years in found.ramps)
    assert found.ramps[0][1] == pytest.approx(10.6, abs=0.1)
    assert found.ramps[1][1] == pytest.approx(6.6, abs=0.1)


def test_the_spread_holds_the_likely_course():
    found = reach_of(course(), 1e6)
    low, mid, high = found.years
    assert low < mid < high
    assert low < found.likely < high
    assert found.reached == 1.0
    assert found.movers[0].name == "buyer_share"
    assert found.movers[0].low > found.likely > found.movers[0].high


def test_a_seed_gives_the_same_draws():
    assert (drawn_years(course(), 1e6, seed=3) == drawn_years(course(), 1e6, seed=3)).all()
    assert (drawn_years(course(), 1e6, seed=3) != drawn_years(course(), 1e6, seed=4)).any()
    made = ramp_of(course(), sampled(50, 0))
    assert np.shape(made.units_per_year[0]) == (50,)


def test_a_stock_counts_from_the_first_day():
    assert reach_of(course("article"), 10_000, draws=10).likely == 0.0
