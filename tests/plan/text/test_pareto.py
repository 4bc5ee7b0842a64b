"""A frontier as characters: a letter for each plan, faster to the left, cheaper below."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.plan import PlanRequest, make_plan
from crore.plan.text.pareto import LEFT, burden_of, letter_of, plot
from crore.plan.text.screen import Screen


@pytest.fixture(scope="module")
def plans():
    request = PlanRequest(
        model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**12, objective="pareto"
    )
    return make_plan(request).plans


def places(lines, count):
    """Return letter -> (column, line) of the field."""
    field = lines[1:-2]
    return {
        letter: (line.index(letter, LEFT), k)
        for letter in map(letter_of, range(count))
        for k, line in enumerate(field) if letter in line[LEFT:]
    }  # fmt: skip


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("blocks", [True, False])
def test_faster_is_to_the_left_and_cheaper_below(plans, columns, blocks):
    lines = plot(plans, Screen(columns=columns, blocks=blocks))
    assert max(map(len, lines)) <= min(columns, 80)
    found = places(lines, len(plans))
    assert len(found) == len(plans) >= 4
    days = [plan.days.value for plan in plans]
    usd = [plan.economy.usd[1] for plan in plans]
    columns_of, rows_of = zip(*(found[letter_of(k)] for k in range(len(plans))), strict=True)
    assert [d for _, d in sorted(zip(columns_of, days, strict=True))] == days
    for a in range(len(plans)):
        for b in range(len(plans)):
            assert usd[a] <= usd[b] or rows_of[a] <= rows_of[b]


def test_the_axes_are_labelled_in_their_units(plans):
    lines = plot(plans, Screen(columns=80))
    assert lines[0].startswith("dollars over days")
    assert lines[-1].split()[1::2] == ["d"] * (len(lines[-1].split()) // 2)
    assert sum("┤" in line and "$" in line for line in lines) >= 2


def test_without_a_price_it_shows_gpu_hours(plans):
    unpriced = [replace(p, economy=replace(p.economy, usd=None)) for p in plans]
    name, hours = burden_of(unpriced)
    assert name == "GPU-hours"
    assert hours == [p.gpus * p.run_s / 3600 for p in plans]
    assert plot(unpriced, Screen())[0].startswith("GPU-hours over days")


def test_equal_plans_cover_each_other_and_break_nothing(plans):
    lines = plot([plans[0]] * 30, Screen(columns=80))
    assert sum(line.count("A") for line in lines[1:-2]) == 1


def test_letters_go_on_after_z():
    assert [letter_of(k) for k in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]
