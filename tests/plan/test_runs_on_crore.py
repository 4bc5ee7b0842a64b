"""A plan for stack crore is one that its trainer runs: held against what the trainer refuses."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plan.brute import MODELS, crore_mission, every_cell, fleet, settings_of

from crore.cost.layout import RECOMPUTE, layers_per_stage
from crore.errors import Infeasible, InputError
from crore.plan import PlanRequest, make_plan, read_mission
from crore.plan.axes import axes_of
from crore.plan.candidates import Candidates, joined, size, take
from crore.plan.record import layout_record
from crore.plan.request import Question
from crore.plan.resolve import resolve
from crore.plan.stack_rules import CELLS, POINTS, SETTINGS, SPLITS, broken_rules, forbids_mode

pytest.importorskip("torch")
refuse = pytest.importorskip("crore.model.refuse")
split = pytest.importorskip("crore.model.split")
MISSIONS, LOOKED_INTO, SAMPLED = 240, 80, 20
"""Missions drawn; cells looked into of each, and settings of each mode and offload there."""
REASONS = 11
"""Of different refusals, so many are met at least, and runs."""
GPIPE = "gpipe-unfilled"
"""The one rule that is no refusal: gpipe runs in a filled pipeline too, and only holds more."""


def refusal(q: Question, layout: dict[str, Any], worlds: float) -> str:
    """Return why the trainer refuses one world of a layout; empty where it runs."""
    layout = layout | {"dp_replicate": round(layout["dp_replicate"] / worlds)}
    world = split.split_of(layout)
    batch = layout["micro_batches"] * world.dp * world.micro_batch
    try:
        refuse.check_runnable(
            q.model, world, seq_len=q.seq_len, global_batch=batch, device="cpu", compiled=False
        )
    except InputError as error:
        return str(error)
    return ""


@settings(max_examples=40)
@given(data=st.data())
def test_the_best_plan_is_one_that_the_trainer_runs(data):
    kind = data.draw(st.sampled_from((crore_mission, fleet)))
    models = (*MODELS, "moe-125t", "nano-1m")
    request = kind(lambda values: data.draw(st.sampled_from(values)), models)
    try:
        answer = make_plan(replace(request, stack="crore"))
    except Infeasible:
        return
    for plan in answer.plans:
        assert not refusal(plan.question, dict(plan.layout), plan.worlds / plan.islands)


@pytest.mark.parametrize("name", ["ten_million", "ten_million_moe", "this_machine"])
def test_a_shipped_mission_of_stack_crore_runs_world_by_world(name):
    plan = make_plan(PlanRequest(**(read_mission(name) or {}))).plan
    assert plan.question.stack_name == "crore"
    assert not refusal(plan.question, dict(plan.layout), plan.worlds / plan.islands)


def sampled(q: Question) -> Candidates:
    """Return settings of a question from all over its space."""
    cells = every_cell(q).candidates
    some = take(cells, slice(0, None, 1 + size(cells) // LOOKED_INTO))
    if not size(some):
        return some
    parts = [
        take(part, slice(0, None, 1 + size(part) // SAMPLED))
        for part in settings_of(q, axes_of(q), some)
    ]
    return joined(parts, [size(part) for part in parts]) if parts else take(some, slice(0, 0))


def drawn(kind: Callable[..., PlanRequest]) -> list[Question]:
    """Return the same random missions every time."""
    chosen = (random.Random(seed).choice for seed in range(MISSIONS))  # noqa: S311
    return [resolve(kind(choose)) for choose in chosen]


def keys(q: Question, candidates: Candidates) -> list[tuple[dict[str, Any], float]]:
    """Return (layout, worlds) of each candidate."""
    stage = layers_per_stage(candidates.layout, q.shape.layers) * np.ones(size(candidates))
    rows = (take(candidates, row) for row in range(size(candidates)))
    return [
        (layout_record(q, row, float(stage[at])), float(np.asarray(row.worlds)))
        for at, row in enumerate(rows)
    ]


@pytest.mark.parametrize("kind", [crore_mission, fleet])
def test_every_setting_that_obeys_is_one_that_the_trainer_runs(kind):
    for q in drawn(kind):
        for layout, worlds in keys(q, sampled(q)):
            assert not refusal(q, layout, worlds), layout


def test_what_the_stack_forbids_is_what_the_trainer_refuses_and_no_more():
    reasons = set()
    for ruled in drawn(crore_mission):
        free = replace(ruled, abilities=replace(ruled.abilities, rules=()))
        words = tuple(word for word in ruled.abilities.rules if word != GPIPE)
        ruled = replace(ruled, abilities=replace(ruled.abilities, rules=words))  # noqa: PLW2901
        some = sampled(free)
        broken = np.zeros(size(some), dtype=bool)
        for _, mask in broken_rules(ruled, some, SPLITS, POINTS, CELLS, SETTINGS):
            broken |= mask
        for mode in (RECOMPUTE.index(name) for name in ("light", "selective", "full")):
            broken |= forbids_mode(ruled, some, mode) & np.equal(some.layout.recompute, mode)
        for (layout, worlds), forbidden in zip(keys(free, some), broken, strict=True):
            refused = refusal(free, layout, worlds)
            assert bool(refused) == forbidden, (layout, refused)
            reasons.add(re.sub(r"\d[\d,]*", "#", refused.partition(": ")[2]))
    assert len(reasons) > REASONS
