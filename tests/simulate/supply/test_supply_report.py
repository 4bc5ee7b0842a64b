"""The answer of supply: a year with its range or a reason, the fleet by year, when to start."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crore.catalog.supply import scenario
from crore.cost.scenario import Course
from crore.cost.start import linear_elastic, linear_rigid
from crore.errors import InputError
from crore.simulate.supply import (
    Phase,
    rate_of,
    render_supply,
    starts_of,
    supply_of,
    supply_record,
)
from crore.simulate.supply.start import YEAR_S

LINEAR = {"growth_per_year": 0.0, "attrition_per_year": 0.0, "life_years": 100.0,
          "installed": 0.0, "buyer_share": 1.0}  # fmt: skip


def course(name="article", **own):
    return Course(scenario=scenario(name), own=own)


def test_never_is_an_answer_with_its_reason():
    found = supply_of(course(), units=1e7, draws=50)
    assert "1M units a year" in found.never
    assert render_supply(found).startswith("NEVER  10M GPUs, because")
    record = supply_record(found)
    assert record["units"]["ready_year"] == {"p10": None, "p50": None, "p90": None}


def test_a_year_has_its_range_and_what_moves_it():
    found = supply_of(course("announced"), units=1e6, h100=1e8, draws=200)
    assert found.never == ""
    record = supply_record(found)
    years = record["units"]["ready_year"]
    assert 2026.9 < years["p10"] < years["p50"] < years["p90"] < 2035
    assert record["units"]["movers"][0]["source"]
    text = render_supply(found)
    assert "H100-equivalents" in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_fleet_by_year_is_whole_and_mixed():
    rows = supply_record(supply_of(course("announced"), draws=10))["fleet"]
    assert len(rows) == 10
    for row in rows:
        assert sum(row["by_generation"]) == pytest.approx(row["units"])
        assert sum(row["batch_shares"]) == pytest.approx(1.0)
        assert 0 < row["equal_batches"] <= 1
    assert rows[-1]["equal_batches"] < rows[0]["equal_batches"]


def test_a_user_s_own_figure_is_said_to_be_given():
    record = supply_record(supply_of(course(attrition_per_year=0.1), units=10.0, draws=10))
    assert record["ranges"]["attrition_per_year"]["source"] == "given"
    assert record["ranges"]["attrition_per_year"]["low"] == 0.1


def test_an_elastic_run_ends_by_one_over_root_two_of_a_rigid_one():
    """Speed as the fleet, the fleet linear: the closed forms, to a hundredth of a year."""
    own = {**LINEAR, "units_per_year": 1e6}
    work_years = 3.0  # GPU-years of a million
    phases = [Phase(gpus=n, run_s=work_years * 1e6 / n * YEAR_S) for n in (1e3, 1e8)]
    slow = Course(scenario=scenario("article"), own=own)
    found = {it.way: it for it in starts_of(slow, phases, (1.0, 1.0, 1.0), draws=5)}
    gain = 2 ** (1 / 2)  # the scenario's new units grow faster: the linear law is a bound
    rigid, elastic = float(linear_rigid(3.0, 1.0)[1]), float(linear_elastic(3.0, 1.0))
    assert found["rigid"].finish[1] < rigid
    assert found["elastic"].finish[1] < elastic
    assert found["elastic"].finish[1] > elastic / gain
    assert found["elastic"].finish[1] < found["rigid"].finish[1] < found["waiting"].finish[1]


def test_a_rate_follows_the_phases_and_does_nothing_below_them():
    rate = rate_of([Phase(gpus=1e5, run_s=10 * YEAR_S), Phase(gpus=1e6, run_s=YEAR_S)])
    assert rate(np.array([1e5, 316_227.766, 1e6, 1e7])) == pytest.approx([0.1, 10**-0.5, 1.0, 1.0])
    assert rate(np.array([9e4]))[0] == 0.0
    with pytest.raises(InputError, match="no size"):
        rate_of([])


def test_a_run_that_waits_for_a_fleet_that_never_comes_never_ends():
    found = starts_of(
        course(), [Phase(gpus=1e18, run_s=YEAR_S)], (1.0, 1.0, 1.0), draws=3
    )  # fmt: skip
    assert math.isinf({it.way: it for it in found}["waiting"].finish[1])
