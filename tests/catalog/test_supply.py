"""Scenarios of supply: every one whole, every figure sourced, bad rows refused by a clear line."""

from __future__ import annotations

from typing import Any

import pytest

from crore.catalog.supply import build_scenario, load_scenarios, scenario
from crore.cost.scenario import Course
from crore.errors import InputError, UnknownName

SOURCED = {"source": "a test", "date": "2026"}


def figure(low=1.0, value=None, high=None):
    value = low if value is None else value
    return {"low": low, "value": value, "high": value if high is None else high, "unit": "x",
            **SOURCED}  # fmt: skip


def row(**more: Any) -> dict[str, Any]:
    names = ("attrition_per_year", "life_years", "h100_equivalents", "doubling_years",
             "growth_per_year", "buyer_share")  # fmt: skip
    cap = {"unit": "units/year", "knots": [[2025.0, 1e6, 1e6, 1e6]], **SOURCED}
    return {
        "title": "t", "begin": 2025.0, "caps": {"c": cap},
        "ranges": {name: figure() for name in names}, **SOURCED, **more,
    }  # fmt: skip


def test_every_figure_of_every_scenario_has_a_source():
    rows = load_scenarios()
    assert {"article", "foundry", "announced", "retail"} <= rows.keys()
    for it in rows.values():
        sources = [one.provenance for one in it.figures.values()]
        for source in (it.provenance, *sources, *(cap.provenance for cap in it.caps)):
            assert len(source.source) > 5
            assert source.date >= "2022"


def test_the_article_is_a_million_a_year():
    it = scenario("Article ")
    assert it.installed == 20_000
    assert it.caps[0].knots[0][1:] == (1e6, 1e6, 1e6)


def test_an_unknown_scenario_names_the_known():
    with pytest.raises(UnknownName, match="announced"):
        scenario("anounced")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"caps": {}}, "no caps"),
        ({"caps": {"c": {"unit": "tons", "knots": [[2025, 1, 1, 1]], **SOURCED}}}, "units/year"),
        ({"caps": {"c": {"unit": "units/year", "knots": [[2025, 2, 1, 1]], **SOURCED}}}, "low <="),
        ({"caps": {"c": {"unit": "units/year", "knots": [[2025, -1, 1, 1]], **SOURCED}}}, "> 0"),
        (
            {"caps": {"c": {"unit": "units/year",
                            "knots": [[2026, 1, 1, 1], [2025, 1, 1, 1]], **SOURCED}}},
            "years of its knots rise",
        ),
        ({"caps": {"c": {"unit": "wafers/month", "knots": [[2025, 1, 1, 1]], **SOURCED}}},
         "package_mm2"),
        ({"ranges": {}}, "lacks figures"),
    ],
)  # fmt: skip
def test_a_row_that_says_nothing_sound_is_refused(more, words):
    with pytest.raises(InputError, match=words):
        build_scenario("x", row(**more), {})


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("buyer_share", figure(1.5), "share up to 1"),
        ("buyer_share", figure(-0.5), ">= 0"),
        ("life_years", figure(0.0), "above 0"),
    ],
)
def test_a_figure_out_of_range_is_refused(name, bad, words):
    sound = row()
    with pytest.raises(InputError, match=words):
        build_scenario("x", {**sound, "ranges": {**sound["ranges"], name: bad}}, {})


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"buyer_share": -0.1}, "buyer_share is 0 to 1, not -0.1"),
        ({"buyer_share": 0.0}, "gets nothing"),
        ({"attrition_per_year": 2.0}, "0 to 1"),
        ({"color": 1.0}, "color"),
    ],
)
def test_a_user_s_own_figures_are_held_to_the_same(own, words):
    with pytest.raises(InputError, match=words):
        Course(scenario=scenario("article"), own=own)
