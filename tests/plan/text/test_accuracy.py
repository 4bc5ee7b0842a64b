"""The error plot: every scored run is a dot, the numbers are the table's."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from crore.catalog import load_catalog, read_runs
from crore.plan import validate_runs
from crore.plan.text.accuracy import SIDE, STRIPS, STRIPS_END, validation_svg

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> Any:
    """Return a picture of ours as a tree."""
    return fromstring(svg)  # noqa: S314


RUNS = Path(__file__).parents[2] / "published" / "runs.jsonl"


@pytest.fixture(scope="module")
def drawn():
    runs, catalog = read_runs(RUNS), load_catalog()
    made = validate_runs(runs, catalog)
    return made, parsed(validation_svg(made, runs, catalog))


def test_every_scored_run_is_a_dot_in_the_field_and_in_its_familys_strip(drawn):
    made, root = drawn
    dots = [it for it in root.iter(f"{SPACE}path") if it.get("stroke-width") in ("3", "4")]
    counts = {
        size: sum(it.get("d").count("M") for it in dots if it.get("stroke-width") == size)
        for size in ("3", "4")
    }
    assert counts["4"] == made.measured == 1062
    assert counts["3"] == 2 * made.measured  # its family, and all


def test_dots_stand_where_their_errors_are(drawn):
    """A run's dots: left, as far from the diagonal as right from the middle, in their scales."""
    made, root = drawn
    strips = [it for it in root.iter(f"{SPACE}path") if it.get("stroke-width") == "3"]
    places = sorted(
        float(step.split()[0]) for it in strips[-2:] for step in it.get("d").split("M")[1:]
    )
    ratios = [0.5 * 4 ** ((x - STRIPS) / (STRIPS_END - STRIPS)) for x in places]
    within = sum(abs(ratio - 1) <= 0.1 for ratio in ratios) / len(ratios)
    everyone = made.scores["family"][-1]
    assert within == pytest.approx(everyone.within_10_percent, abs=0.01)
    assert ratios[len(ratios) // 2] - 1 == pytest.approx(everyone.bias, abs=0.003)
    assert SIDE > 0


def test_the_numbers_are_the_tables(drawn):
    made, root = drawn
    words = [it.text for it in root.iter(f"{SPACE}text")]
    for score in made.scores["family"]:
        at = words.index(f"{score.group} ({score.runs:,})")
        median, p90 = 100 * score.median_abs_error, 100 * score.p90_abs_error
        assert words[at + 1] == f"{median:.1f}, {p90:.1f} %"


def test_a_file_without_measurements_is_an_empty_field():
    runs, catalog = read_runs(RUNS)[:1], load_catalog()
    made = validate_runs(runs, catalog)
    svg = validation_svg(made, [], catalog)
    assert "of 0 runs" in svg
    assert parsed(svg) is not None
