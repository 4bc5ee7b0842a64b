"""Parts of a step and of the memory are made of operations that add up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from crore.io import dump_json
from crore.plan import SCHEMA_VERSION, PlanRequest, make_plan, plan_record
from crore.plan.explain.again import Case, case_of
from crore.plan.explain.parts import memory_items, parameter_items, step_items


def case_for(**fix: Any) -> Case:
    made = make_plan(
        PlanRequest(model="llama-3.1-70b", gpu="h100-sxm", gpus=64, tokens=10**10, fix=fix)
    )
    return case_of(json.loads(dump_json("plan", SCHEMA_VERSION, plan_record(made))), "plan.json")


CASES: dict[str, dict[str, Any]] = {
    "pipeline": {"tp": 4, "pp": 4, "zero": 1},
    "recompute": {"tp": 8, "pp": 2, "recompute": "full"},
    "sharded": {"zero": 3, "tp": 1, "pp": 1},
    "selective": {"tp": 8, "pp": 4, "recompute": "light"},
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return case_for(**CASES[request.param])


def test_operations_of_a_part_add_up(case):
    waiting = {"host", "bubble", "stragglers", "uneven stages"}
    for part, seconds in case.plan.step_split_s.items():
        if part not in waiting:
            total = sum(it.amount for it in step_items(case, part))
            assert total == pytest.approx(seconds, rel=1e-12), part


@pytest.mark.parametrize("part", ["activations", "logits"])
def test_what_is_kept_adds_up(case, part):
    total = sum(it.amount for it in memory_items(case, part))
    assert total == pytest.approx(case.plan.memory_split_bytes[part], rel=1e-12)


def test_full_recompute_keeps_inputs_alone():
    kept = memory_items(case_for(**CASES["recompute"]), "activations")
    assert kept[0].name.startswith("inputs of recomputed layers")


def test_an_operation_is_counted_as_often_as_a_rank_runs_it():
    case = case_for(**CASES["pipeline"])
    counts = {it.name: it.count for it in step_items(case, "products")}
    assert counts["qkv"] == 80 / 4 * case.plan.layout["micro_batches"]
    assert counts["qkv, backward"] == counts["qkv"]


def test_the_size_of_an_operation_can_be_checked_by_hand():
    """A rank of tp 4 holds 2,048 of 8,192 query columns and 2 x 256 of key and value."""
    case = case_for(**CASES["pipeline"], micro_batch=1)
    sizes = {it.name: it.size for it in step_items(case, "products")}
    assert sizes["qkv"] == "8,192 x 2,560 x 8,192"
    assert sizes["qkv, backward"] == "8,192 x 2,560 x 8,192, 2 times"
    sent = {it.name: it.size for it in step_items(case, "tp")}
    assert set(sent.values()) == {"134 MB, 4 ranks"}  # 2 bytes of 8,192 x 8,192


def test_weights_by_kind_are_the_models_parameters(case):
    items = {it.name: it for it in parameter_items(case)}
    assert sum(it.amount for it in items.values()) == case.plan.parameters
    assert items["attention layers"].count == 80
    assert items["embedding table"].amount == 128_256 * 8192
