"""Stepwise and closed form agree; cohorts are conserved; generations add up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crore.catalog.supply import scenario
from crore.cost.scenario import Course, ramp_of
from crore.cost.supply import Ramp, fleet_speed, fleet_units
from crore.errors import InputError
from crore.simulate.supply import grow


def ramp(growth, attrition, life, installed=0.0):
    return Ramp(
        starts=(0.0,), units_per_year=(1e6,), growth=(math.log1p(growth),), attrition=attrition,
        life_years=life, installed=installed,
    )  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(st.floats(-0.2, 0.5), st.floats(0, 0.15), st.floats(1.0, 8.0))
def test_day_by_day_is_the_closed_form(growth, attrition, life):
    """Less than 0.1 % apart from a half-year on."""
    made = ramp(growth, attrition, life)
    history = grow(made, 10.0)
    later = history.years >= 0.5
    exact = fleet_units(made, history.years[later])
    # A cohort of one day retires whole: half a day of deliveries at most.
    assert np.abs(history.units[later] / exact - 1).max() < 1e-3


@pytest.mark.parametrize("name", ["article", "foundry", "announced", "retail"])
def test_the_shipped_scenarios_agree_too(name):
    made = ramp_of(Course(scenario=scenario(name), own={}))
    history = grow(made, 12.0, generation_years=0.25)
    later = history.years >= 0.5
    exact = fleet_units(made, history.years[later])
    away = np.abs(history.years[later] - float(np.asarray(made.life_years))) > 0.01
    assert np.abs(history.units[later] / exact - 1)[away].max() < 1e-3
    speed = fleet_speed(made, history.years[later])
    assert np.abs(history.speed[later] / speed - 1)[away].max() < 0.02  # steps of a quarter


@given(st.floats(-0.2, 0.5), st.floats(0, 0.15), st.floats(1.0, 8.0))
@settings(max_examples=8, deadline=None)
def test_every_unit_is_at_work_broken_or_retired(growth, attrition, life):
    history = grow(ramp(growth, attrition, life, installed=2e5), 9.0)
    assert history.units + history.broken + history.retired == pytest.approx(
        history.delivered, rel=1e-9
    )
    assert history.by_generation.sum(axis=0) == pytest.approx(history.units)


def test_counted_units_scatter_about_the_mean():
    """Poisson deliveries and binomial losses: within four standard deviations of the mean."""
    made = ramp(0.0, 0.04, 3.0)
    small = Ramp(starts=(0.0,), units_per_year=(5_000.0,), growth=(0.0,), attrition=0.04,
                 life_years=3.0)  # fmt: skip
    counted = grow(small, 6.0, random=np.random.default_rng(0))
    mean = np.asarray(fleet_units(small, counted.years))
    assert np.abs(counted.units - mean).max() < 4 * np.sqrt(mean.max())
    assert counted.units.std() > 0
    assert grow(made, 6.0).units[-1] == pytest.approx(fleet_units(made, 6.0), rel=1e-3)


def test_a_newer_generation_is_faster():
    made = Ramp(starts=(0.0,), units_per_year=(1.0,), growth=(0.0,), gain=math.log(2) / 2)
    assert np.diff(np.log2(grow(made, 8.0).speeds)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("years", "generation", "words"),
    [(0.0, 2.0, "a day to 60"), (99.0, 2.0, "a day to 60"), (5.0, 0.0, "generation lasts")],
)
def test_what_cannot_be_followed_is_refused(years, generation, words):
    with pytest.raises(InputError, match=words):
        grow(ramp(0.0, 0.0, 5.0), years, generation_years=generation)


def test_draws_are_not_followed_together():
    many = Ramp(starts=(0.0,), units_per_year=(np.ones(3),), growth=(0.0,))
    with pytest.raises(InputError, match="one course"):
        grow(many, 1.0)
