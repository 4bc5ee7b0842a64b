"""A comparison reads: verdict first, a table no wider than a terminal, causes that multiply."""

from __future__ import annotations

import math
import re

import pytest

from crore.plan import Limits, PlanRequest, compare, make_plan, render_comparison
from crore.plan.text.comparison import verdicts
from crore.plan.text.screen import Screen

A = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=16)
B = PlanRequest(model="llama-3.1-8b", gpu="a100-sxm-80gb", gpus=64, tokens=10**12)
C = PlanRequest(model="gpt2-124m", gpu="v100", gpus=8)
FLEET = PlanRequest(
    model="llama-3.1-8b", gpu="h100-sxm", gpus=64, stack="crore", limits=Limits(world_gpus=16),
    fix={"islands": 4},
)  # fmt: skip


@pytest.fixture(scope="module")
def answers():
    return [make_plan(request) for request in (A, B, C, FLEET)]


def table(text):
    """Return label -> cells of a table of two columns or more, wrapped cells left out."""
    cells = (re.split(r"\s{2,}", line) for line in text.partition("\n\nB against")[0].splitlines())
    return {row[0]: row[1:] for row in cells if len(row) > 2}


def test_the_first_line_says_how_much_longer_how_much_dearer_and_why(answers):
    made = compare(answers[:2])
    first = render_comparison(made).splitlines()[0]
    usd = made.differences[0].usd
    assert usd is not None
    said = f"{made.differences[0].days.ratio:.2f}x as long as A and costs {usd.ratio:.1f}x as much"
    assert first.startswith(f"B takes {said}: ")
    assert "x6.23 tokens, -75 % GPUs" in first


def test_the_table_has_a_column_for_each(answers):
    text = render_comparison(compare(answers))
    rows = table(text)
    assert ["A", "B", "C", "D"] in [line.split() for line in text.splitlines()]
    assert rows["GPUs"] == ["16", "64", "8", "64"]
    assert rows["islands"] == ["1", "1", "1", "4"]
    assert rows["dollars"][2] == "unknown"
    assert rows["priced as"][:2] == ["owned", "rented"]
    assert rows.keys() >= {
        "days", "days, 80 %", "step", "tokens/s", "MFU", "memory", "goodput", "worlds", "dp",
        "power", "energy", "fabric", "binds",
    }  # fmt: skip


@pytest.mark.parametrize("count", [2, 3, 4, 6])
@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_wider_than_a_terminal(answers, count, columns):
    many = [*answers, *answers][:count]
    text = render_comparison(
        compare(many, [f"a/long/way/{'x' * 70}/{k}.toml" for k in range(count)]),
        Screen(columns=columns),
    )
    assert max(map(len, text.splitlines())) <= columns
    assert f"{count - 1}.toml" in text


def test_the_printed_causes_multiply_to_the_printed_ratio(answers):
    text = render_comparison(compare(answers[:2]))
    block = text.partition("B against A: days x")[2].partition("  the factors multiply to x")
    percents = [1 + float(x) / 100 for x in re.findall(r"^ +([+-][\d.]+) %", block[0], re.M)]
    factors = [float(x) for x in re.findall(r"^ +x([\d.]+) ", block[0], re.M)]
    printed = float(block[2].partition(",")[0])
    assert math.prod([*percents, *factors]) == pytest.approx(printed, rel=0.03)  # digits shown
    assert re.match(r"[\d.]+, residual -?\de[-+]\d\d\n", block[2])


def test_equal_plans_are_said_to_be(answers):
    text = render_comparison(compare([answers[0], answers[0]]))
    assert text.startswith("B takes as long as A and costs as much\n")
    assert "together" not in text


def test_an_unknown_price_is_said(answers):
    made = compare([answers[0], answers[2]])
    assert "costs" not in verdicts(made)[0]
    assert "B against A: dollars unknown" in render_comparison(made)


def test_notes_come_last(answers):
    text = render_comparison(compare(answers[:2], notes=["one", "two"]))
    assert text.endswith("notes       one\n            two")


def test_a_notebook_shows_static_tables_with_names_escaped(answers):
    html = compare(answers[:3], ["<script>alert(1)</script>", "b & c", "d"])._repr_html_()
    assert html.startswith("<div><p><b>B takes ")
    assert "<script" not in html
    assert "A: &lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "B: b &amp; c" in html
    assert html.count("<table") == html.count("</table>") == 3
    assert html.count("<tr>") == html.count("</tr>")
