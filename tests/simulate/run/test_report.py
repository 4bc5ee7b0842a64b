"""What a terminal shows of a simulated run, and the record that its schema describes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import numpy as np
import pytest

from crore.cli.document import dumped
from crore.simulate.run import SCHEMA_VERSION, record, render
from crore.simulate.run.report import ASSUMED

SCHEMA = json.loads((files("crore") / "schemas" / "simulation.json").read_text(encoding="utf-8"))
WIDTH = 130
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one world": ("dense", {}),
    "one GPU": ("one", {}),
    "worlds": ("quorum", {"hazard": 1.0}),
    "islands": ("islands", {}),
    "nothing fails": ("islands", {"hazard": 0.0}),
    "stands still": ("dense", {"hazard": 1e6}),
    "ten million": ("ten_million", {}),
    "a world cut off": ("flat", {}),
}


@pytest.fixture(scope="module")
def case(runs):
    """Return a run by the name of its case."""

    def made(name):
        plan, flags = CASES[name]
        return runs(plan, **flags)

    return made


@pytest.mark.parametrize("name", CASES)
def test_a_record_is_as_its_schema_says(case, name):
    """`dumped` takes no infinity and no NaN."""
    document = json.loads(dumped("simulation", SCHEMA_VERSION, record(case(name))))
    found = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(document))
    assert [error.message for error in found] == []


@pytest.mark.parametrize("name", CASES)
def test_a_record_has_the_numbers_of_its_run(case, name):
    done = case(name)
    body = record(done)
    assert body["goodput"]["p50"] == done.goodput.p50
    assert body["stands_still"] == done.stands_still
    assert (body["hazard_unsure"] is None) == ("hazard" in CASES[name][1])
    assert body["hazard"] == CASES[name][1].get("hazard", 1.0)
    assert body["mtbf_s"] == done.subject.run.mtbf_s
    assert len(body["policies"]) == 2 * len(done.subject.applies)


def test_islands_cut_off_have_no_step_and_are_told(case, steps):
    """One plane, one world: a dead link leaves its GPU no way out."""
    fleet = steps("flat").fleet
    assert fleet.lost_worlds.sum() == 1
    assert np.isinf(fleet.step_s)
    told = record(case("a world cut off"))["step"]["fleet"]
    assert told["slowest_island_s"] is told["median_island_s"] is None
    assert told["lost_worlds"] == 1
    text = render(case("a world cut off"))
    assert "1 of 1 islands cut off until repaired" in text
    assert "inf" not in text
    assert "held up" not in text


@pytest.mark.parametrize("name", CASES)
def test_lines_fit_and_say_what_stands_behind_them(case, name):
    done = case(name)
    lines = render(done).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[-2:] == [f"assumed     {text}" for text in ASSUMED]
    whose = "left over by the plan" if done.subject.spares_planned else "beside the plan's GPUs"
    assert lines[-3].endswith(f"stand by as spares, {whose}")


def test_the_verdict_is_the_first_line(case):
    done = case("one world")
    first = render(done).splitlines()[0]
    assert first.startswith("FINISHES  in ")
    assert f"makes progress {100 * done.goodput.p50:.0f} % of the time" in first
    assert first.endswith("by restart-disk")


def test_a_run_that_stands_still_is_told_with_the_way_out(case):
    done = case("stands still")
    first = render(done).splitlines()[0]
    assert first.startswith("STANDS STILL  restart-disk makes progress 0.0e+00 of the time")
    assert f"{done.best.policy} would {100 * done.best.goodput:.0f} %" in first


@pytest.mark.parametrize("name", ["one world", "worlds", "islands"])
def test_the_table_has_every_policy_once_and_marks_the_plans(case, name):
    done = case(name)
    lines = render(done).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("policy"))
    rows = lines[start + 1 : start + 1 + len(done.subject.applies)]
    assert [row.split()[0] for row in rows] == list(done.subject.applies)
    marked = [row for row in rows if row.endswith("<- the plan's")]
    assert [row.split()[0] for row in marked] == [done.subject.policy]
    for row, once, thrice in zip(rows, done.at(1.0), done.at(3.0), strict=True):
        assert f"{once.goodput:.3f}" == row.split()[1]
        assert f"{thrice.goodput:.3f}" in row


def test_a_policy_that_never_ends_is_told_so(case):
    rows = render(case("ten million")).splitlines()
    row = next(line for line in rows if line.startswith("restart-disk"))
    assert row.split() == ["restart-disk", "0.000", "never", "0.000", "never"]


@pytest.mark.parametrize("name", CASES)
def test_shares_of_the_time_add_up_to_all_of_it(case, name):
    lines = render(case(name)).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("where the time goes"))
    shares = []
    for line in lines[start + 1 : lines.index("", start)]:
        assert line.endswith(" %")
        shares.append(float(line.split()[-2]))
    assert sum(shares) == pytest.approx(100, abs=0.05 * len(shares) + 0.05)
    assert shares[1:] == sorted(shares[1:], reverse=True)


def test_a_step_is_told_with_and_without_a_network(case):
    assert "on its network" in render(case("one world"))
    assert "on its network" not in render(case("one GPU"))
    for name in ("one world", "one GPU"):
        assert "s played pass by pass; planned" in render(case(name))


def test_what_is_drawn_is_told(case):
    assert "the rate of failures unsure: x1.8, give or take a factor 1.6" in render(case("islands"))
    assert "the rate of failures x0 that of" in render(case("nothing fails"))
    assert "40 runs, seed 0" in render(case("islands"))


def test_nothing_fails_has_no_time_between_failures(case):
    done = case("islands")
    run = replace(done.subject.run, hazard=0.0)
    body = record(replace(done, subject=replace(done.subject, run=run)))
    assert body["mtbf_s"] is None
