"""The text: the verdict first, then every number of the plan, in 120 columns."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from crore.plan import Limits, PlanRequest, make_plan, render
from crore.plan.record import verdict
from crore.plan.text.screen import Screen
from crore.units import format_int, three_digits

SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12)
CASES = {
    "open": SMALL,
    "titled": replace(SMALL, title="A title", global_batch=64),
    "tight": replace(
        SMALL, model="llama3-70b", gpus=64, limits=Limits(memory_bytes=20 * 10**9),
        global_batch=63,
    ),
    "experts": PlanRequest(model="mixtral-8x7b", gpu="h100-sxm", gpus=32, tokens=10**11),
    "fleet": PlanRequest(
        model="llama3-8b", gpu="h100-sxm", gpus=71, tokens=10**12, stack="crore",
        limits=Limits(world_gpus=16), global_batch=1024, fix={"islands": 2, "interval": 1},
    ),
    "narrow": replace(SMALL, precision="fp8", fabric="rail-400g"),
    "frontier": replace(SMALL, objective="pareto"),
    "several": replace(SMALL, top=3),
    "unknown": PlanRequest(model="llama3-8b", gpu="tpu-v4", gpus=16, stack="xla", tokens=10**11),
    "critical": replace(SMALL, gpus=1024, global_batch=1024, stock_tokens=10**10),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers():
    return {name: make_plan(request) for name, request in CASES.items()}


@pytest.fixture(scope="module")
def texts(answers):
    return {name: render(answer) for name, answer in answers.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_first_line_is_the_verdict_and_no_line_is_long(name, answers, texts):
    lines = texts[name].splitlines()
    assert lines[0] == verdict(answers[name].plan)
    assert max(map(len, lines)) <= 120
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_terminal_breaks_lines_but_says_the_same(name, columns, answers, texts):
    text = render(answers[name], Screen(columns=columns))
    assert max(map(len, text.splitlines())) <= columns
    drawn = str.maketrans("", "", "█▏░│┤└─┴")
    words = [it for it in text.translate(drawn).split() if not it.isalpha()]
    wide = [it for it in texts[name].translate(drawn).split() if not it.isalpha()]
    assert sorted(words) == sorted(wide) or name == "frontier"  # ticks follow the width


@pytest.mark.parametrize("name", ["open", "frontier", "fleet"])
def test_a_terminal_without_blocks_gets_ascii_bars(name, answers):
    text = render(answers[name], Screen(columns=80, blocks=False))
    assert "####" in text
    assert not set(text) & set("█▏░│┤└─┴")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_row_of_several_plans_goes_on_below_its_layout(columns, answers):
    answer = answers["frontier"]
    text = render(answer, Screen(columns=columns))
    rows = text.split("\nfrontier ")[1].split("\n\n")[0].splitlines()
    at = rows[0].index("layout") + len("frontier ")
    assert [line[:3] for line in rows[1:] if line[:at].strip()] == [
        f"  {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(answer.plans)]
    ]
    assert all(line[at - 1] == " " and line[at] != " " for line in rows[1:])


@pytest.mark.parametrize("name", CASES)
def test_the_text_says_what_the_plan_says(name, answers, texts):
    plan, text = answers[name].plan, " ".join(texts[name].split())
    step, days = plan.step_time_s, plan.days
    assert f"step {three_digits(step.value)} s ({three_digits(step.low)} to" in text
    assert f"({three_digits(days.low)} to {three_digits(days.high)}, 80 %)" in text
    assert f"on {format_int(plan.gpus)} x {plan.question.accelerator.name}" in text
    assert f"micro-batch {plan.layout['micro_batch']}" in text
    assert plan.layout["zero"] in text
    assert f"goodput {plan.goodput:.2f}" in text
    for line in plan.question.derived:
        assert " ".join(line.split()) in text


@pytest.mark.parametrize("name", CASES)
def test_shares_of_time_and_of_memory_add_up(name, texts):
    """Parts below 0.05 % are left out, and each share is rounded to a tenth."""
    time, memory = texts[name].split("time of a step")[1].split("memory of the worst GPU")
    for block in (time, memory.split("failures")[0]):
        shares = [float(share) for share in re.findall(r"([\d.]+) %", block)]
        assert sum(shares) == pytest.approx(100, abs=0.1 * (len(shares) + 1))


def test_what_is_unknown_is_said_to_be(texts):
    assert "power unknown: no board limit published" in texts["unknown"]
    assert "cost unknown" in texts["unknown"] or "rented" in texts["unknown"]


def test_limits_that_bind_are_said_with_their_numbers(answers, texts):
    binding = [limit for limit in answers["critical"].plan.limits if limit.binds]
    assert {"critical batch", "data"} <= {limit.name for limit in binding}
    block = texts["critical"].split("binds")[1]
    for limit in binding:
        assert f"{limit.name}: " in block
    assert "binds       none of memory, " in texts["titled"]


def test_a_fleet_says_its_worlds_islands_and_spares(answers, texts):
    plan, text = answers["fleet"].plan, texts["fleet"]
    assert "fleet       2 islands of" in text
    assert "islands every 1 steps" in text
    assert plan.spares > 0
    assert f"{plan.spares} GPUs are left over as spares" in text
    assert "a quorum of worlds and islands" in text


def test_several_plans_are_a_table(answers, texts):
    for name, title in (("frontier", "frontier"), ("several", "plans")):
        rows = texts[name].split(f"\n{title} ")[1].split("\n\n")[0].splitlines()
        assert len(rows) == 1 + len(answers[name].plans) > 2
    assert "\nplans " not in texts["open"]


def test_narrow_formats_show_both_shares(texts):
    assert "of the 16-bit peak" in texts["narrow"]
    assert "of the 16-bit peak" not in texts["open"]


def test_a_title_and_a_named_network_are_shown(texts):
    assert texts["titled"].splitlines()[1] == "A title"
    assert "on rail-400g" in texts["narrow"]
    assert "fabric " not in texts["narrow"]


def test_steps_come_fastest_first_with_a_sign(texts):
    block = texts["open"].split("\nwhat if ")[1].split("\n\n")[0]
    changes = [float(change) for change in re.findall(r"([+-][\d.]+) % days", block)]
    assert changes == sorted(changes)
    assert len(changes) >= 5


def test_a_search_cut_short_says_so(answers):
    answer = replace(answers["open"], interrupted=True)
    assert "stopped early: the best so far" in render(answer)
    assert "stopped early" not in render(answers["open"])
