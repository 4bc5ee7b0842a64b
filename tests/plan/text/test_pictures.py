"""Pictures of plans: every part and every plan is there, in the numbers of the text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from crore.plan import PlanRequest, compare, make_plan
from crore.plan.record import verdict
from crore.plan.text.bars import waterfall
from crore.plan.text.causes import comparison_svg
from crore.plan.text.comparison import largest, percent, verdicts
from crore.plan.text.pictures import FROM, TO, WIDTH, answer_svg
from crore.units import format_bytes, format_int, three_digits

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> Any:
    """Return a picture of ours as a tree."""
    return fromstring(svg)  # noqa: S314


SMALL = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12)
REQUESTS = {
    "plan": SMALL,
    "frontier": replace(SMALL, gpus=64, objective="pareto"),
    "full": replace(SMALL, model="llama3-70b", gpus=64),
    "unpriced": PlanRequest(
        model="gpt2-124m", gpu="tpu-v4", gpus=16, stack="xla", tokens=10**9, objective="pareto"
    ),
}


@pytest.fixture(scope="module")
def answers():
    return {name: make_plan(request) for name, request in REQUESTS.items()}


def words_of(svg):
    return [it.text for it in parsed(svg).iter(f"{SPACE}text")]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_picture_is_well_formed_and_inside_its_frame(name, answers):
    root = parsed(answer_svg(answers[name]))
    width, height = (float(root.get(key)) for key in ("width", "height"))
    for box in root.iter(f"{SPACE}rect"):
        x, y, w, h = (float(box.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        assert w >= 0 < h
    for text in root.iter(f"{SPACE}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 <= float(text.get("y")) <= height


@pytest.mark.parametrize("name", ["plan", "full"])
def test_a_plan_shows_every_part_against_the_whole(name, answers):
    plan = answers[name].plan
    svg = answer_svg(answers[name])
    words = words_of(svg)
    assert words[0] == verdict(plan)
    held = waterfall(plan.memory_split_bytes, plan.question.memory_bytes)
    spent = waterfall(plan.step_split_s, plan.step_time_s.value)
    for part in held:
        assert words[words.index(part.name) + 1] == format_bytes(part.value)
    for part in spent:
        assert part.name in words
        assert f"{three_digits(part.value)} s" in words
    used = format_bytes(plan.memory_bytes)
    assert f"Memory of the worst GPU: {used} of {format_bytes(plan.question.memory_bytes)}" in words
    bars = [it for it in parsed(svg).iter(f"{SPACE}rect") if it.get("height") == "13"]
    widths = [float(it.get("width")) for it in bars]
    assert len(bars) == len(held) + 1 + len(spent)
    shown = [(part.end - part.start) * (TO - FROM) for part in (*held, *spent)]
    del widths[len(held)]  # what is free
    assert widths == pytest.approx([max(1.5, it) for it in shown], abs=0.06)


def test_a_frontier_has_a_dot_for_each_plan_and_names_their_gpus(answers):
    answer = answers["frontier"]
    root = parsed(answer_svg(answer))
    dots = next(it for it in root.iter(f"{SPACE}path"))
    assert dots.get("d").count("M") == len(answer.plans) > 3
    labels = [it for it in words_of(answer_svg(answer)) if it.endswith(" GPUs")]
    assert f"{format_int(answer.plan.gpus)} GPUs" in labels
    told = root.find(f"{SPACE}desc").text
    assert told.count("days") == len(answer.plans)


def test_a_frontier_without_prices_counts_gpu_hours(answers):
    assert len(answers["unpriced"].plans) > 1
    assert all(plan.economy.usd is None for plan in answers["unpriced"].plans)
    assert "GPU-hours" in words_of(answer_svg(answers["unpriced"]))


def test_a_comparison_shows_the_days_and_every_cause(answers):
    made = compare([answers["plan"], answers["full"], answers["plan"]], ["one", "two", "three"])
    words = words_of(comparison_svg(made))
    assert words[0] == verdicts(made)[0].partition(": ")[0]
    for plan in made.plans:
        assert any(word.startswith(f"{three_digits(plan.days.value)} (") for word in words)
    for cause in largest(made.differences[0].days):
        assert words[words.index(cause.name) + 1] == percent(cause)
    assert "no cause changes the days by 1 %" in words


def test_no_word_runs_out_of_the_frame(answers):
    plan = answers["plan"].plan
    model = replace(plan.question.model, name="m" * 300)
    long = replace(plan, question=replace(plan.question, model=model))
    for word in words_of(answer_svg(replace(answers["plan"], plans=(long,)))):
        assert len(word) * 6 < WIDTH
