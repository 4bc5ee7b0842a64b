"""Wafers become packages, deliveries a fleet: published counts, closed form, invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.supply import (
    Ramp,
    delivered_per_year,
    fleet_speed,
    fleet_units,
    most_units,
    packages_per_wafer,
    packages_per_year,
    steady_units,
    years_to,
)
from crore.errors import InputError

FOREVER = math.inf
TEN_MILLION, MILLION = 1e7, 1e6
COLUMNS = ((0.0, FOREVER), (0.04, FOREVER), (0.04, 7.0), (0.04, 5.0), (0.09, 5.0))
TABLE = {  # growth -> years to ten million at a million a year; None is never
    0.0: (10.0, 12.8, None, None, None),
    0.1: (7.0, 7.7, 8.3, 10.6, 11.8),
    0.2: (5.7, 6.0, 6.0, 6.6, 7.1),
    0.5: (4.0, 4.1, 4.1, 4.1, 4.3),
}
MOST = {(0.04, 7.0): 6.1e6, (0.04, 5.0): 4.5e6, (0.09, 5.0): 4.0e6}


def ramp(growth=0.0, attrition=0.0, life=FOREVER, rate=MILLION, **more):
    """Return one segment that grows by a share a year."""
    return Ramp(
        starts=(0.0,), units_per_year=(rate,), growth=(math.log1p(growth),), attrition=attrition,
        life_years=life, **more,
    )  # fmt: skip


@pytest.mark.parametrize("growth", TABLE)
@pytest.mark.parametrize("column", range(len(COLUMNS)))
def test_years_to_ten_million(growth, column):
    attrition, life = COLUMNS[column]
    made = ramp(growth, attrition, life)
    found, expected = float(years_to(made, TEN_MILLION)[0]), TABLE[growth][column]
    if expected is None:
        assert math.isinf(found)
        assert most_units(made)[0] == pytest.approx(MOST[attrition, life], rel=0.02)
    else:
        assert found == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize(("attrition", "life"), MOST)
def test_a_flat_supply_settles_at_the_steady_state(attrition, life):
    settled = float(steady_units(MILLION, attrition, life))
    assert most_units(ramp(0.0, attrition, life))[0] == pytest.approx(settled, rel=1e-9)


def test_without_losses_a_fleet_is_what_was_delivered():
    assert steady_units(MILLION, 0.0, 5.0) == pytest.approx(5e6)
    assert fleet_units(ramp(), 7.5) == pytest.approx(7.5e6)


@pytest.mark.parametrize(
    ("mm2", "packages", "off"),
    [(1660, 29, -0.095), (2830, 14, -0.11), (3300, 9, 0.09)],
)
def test_packages_of_a_wafer_come_near_the_reported_counts(mm2, packages, off):
    """H100 29, B200 14 to 16 (recalled), Rubin 9 (JPMorgan); 2, 3.4 and 4 reticles of 830 mm2."""
    assert float(packages_per_wafer(mm2)) / packages - 1 == pytest.approx(off, abs=0.005)


def test_a_maker_ships_five_to_seven_million_in_2026():
    """85,000 wafers a month, 60 %, 9 to 14 packages: the million a year is one large buyer's."""
    low, high = (packages_per_year(85e3, mm2, 0.95, 0.60) for mm2 in (3300, 2831))
    assert 5e6 < low < high < 7.5e6


def test_in_h100_equivalents_ten_million_are_near():
    """Units of three H100s, twice as fast every two years: 2.0 to 2.3 years, and 5.7 to 7.8."""
    fast = {"attrition": 0.04, "life": 5.0, "speed": 3.0, "gain": math.log(2) / 2}
    for growth, ten, hundred in ((0.0, 2.3, 7.8), (0.2, 2.0, 5.7)):
        made = ramp(growth, **fast)
        assert years_to(made, 1e7, speed=True)[0] == pytest.approx(ten, abs=0.06)
        assert years_to(made, 1e8, speed=True)[0] == pytest.approx(hundred, abs=0.06)


def test_a_bent_ramp_is_the_sum_of_its_pieces():
    """Two segments of one rate are one; a stock is what is left of it."""
    rate = math.log(1.3)
    bent = Ramp(starts=(0.0, 2.0), units_per_year=(1e6, 1e6 * 1.3**2), growth=(rate, rate),
                attrition=0.05, life_years=4.0)  # fmt: skip
    whole = ramp(0.3, 0.05, 4.0)
    years = np.linspace(0, 12, 49)
    assert fleet_units(bent, years) == pytest.approx(fleet_units(whole, years), rel=1e-12)
    stocked = ramp(0.3, 0.05, 4.0, installed=500.0)
    more = fleet_units(stocked, years) - fleet_units(whole, years)
    expected = np.where(years < 4, 500 * np.exp(-0.05 * years), 0)
    assert more == pytest.approx(expected, abs=1e-3)
    assert delivered_per_year(bent, 3.0) == pytest.approx(1e6 * 1.3**3)


growths = st.floats(-0.3, 0.6)
attritions = st.floats(0.0, 0.2)
lives = st.floats(1.0, 12.0)


@given(growths, attritions, lives, st.floats(0.1, 30.0))
def test_the_fleet_obeys_its_rate_equation(growth, attrition, life, year):
    """dN/dt = P(t) - δN - P(t-L)·e^{-δL}, away from the kink where the first unit retires."""
    if abs(year - life) < 0.01:
        return
    made, h = ramp(growth, attrition, life), 1e-4
    slope = float(fleet_units(made, year + h) - fleet_units(made, year - h)) / (2 * h)
    retiring = float(delivered_per_year(made, year - life)) if year > life else 0.0
    flow = (
        float(delivered_per_year(made, year)) - attrition * float(fleet_units(made, year))
        - retiring * math.exp(-attrition * life)
    )  # fmt: skip
    assert slope == pytest.approx(flow, rel=1e-4, abs=50.0)


@given(growths, attritions, lives, st.floats(1e5, 3e7))
def test_the_crossing_is_where_the_fleet_first_reaches_the_target(growth, attrition, life, target):
    made = ramp(growth, attrition, life)
    year = float(years_to(made, target)[0])
    if math.isinf(year):
        assert most_units(made)[0] < target
    else:
        assert fleet_units(made, year) >= target * (1 - 1e-6)
        assert year < 1e-3 or fleet_units(made, year - 1e-3) < target


@given(attritions, lives, st.floats(0, 0.5), st.floats(0.01, 0.3))
def test_more_supply_or_less_wear_is_never_later(attrition, life, growth, more):
    base = years_to(ramp(growth, attrition, life), 3e6)[0]
    assert years_to(ramp(growth + more, attrition, life), 3e6)[0] <= base
    assert years_to(ramp(growth, attrition, life + more), 3e6)[0] <= base
    assert years_to(ramp(growth, attrition + more, life), 3e6)[0] >= base


def test_draws_are_answered_one_by_one():
    many = Ramp(starts=(0.0,), units_per_year=(np.array([1e6, 2e6, 1e5]),), growth=(0.0,))
    found = years_to(many, TEN_MILLION)
    assert found[:2] == pytest.approx([10.0, 5.0], abs=1e-4)
    assert math.isinf(found[2])
    assert np.shape(fleet_speed(many, 1.0)) == (3,)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"starts": (1.0,)}, "start at 0"),
        ({"units_per_year": (-1.0,)}, "not below 0"),
        ({"attrition": -0.1}, "not below 0"),
        ({"life_years": 0.0}, "above 0"),
        ({"growth": ()}, "each of its segments"),
    ],
)
def test_what_is_no_course_of_supply_is_refused(fields, words):
    sound = {"starts": (0.0,), "units_per_year": (1.0,), "growth": (0.0,)}
    with pytest.raises(InputError, match=words):
        Ramp(**{**sound, **fields})


def test_nothing_is_waited_for_and_no_area_is_packaged():
    with pytest.raises(InputError, match="more than 0 units"):
        years_to(ramp(), 0.0)
    with pytest.raises(InputError, match="above 0"):
        packages_per_wafer(0.0)
