"""The search: exact over its space, every rule with a count, pins obeyed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crore.errors import Infeasible, InputError, UnknownName
from crore.plan import PlanRequest, make_plan
from crore.plan.request import resolve
from crore.plan.search import MARGIN, price, search
from crore.plan.space import apply_rules, divisors, enumerate_layouts, take

LLAMA = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12, global_batch=128)


def test_the_answer_is_the_fastest_of_all_candidates_priced_one_by_one():
    question = resolve(LLAMA)
    found = search(question)
    everything = enumerate_layouts(question).layout
    alive, _ = apply_rules(question, everything)
    best = np.inf
    for index in np.flatnonzero(alive):
        _, time, memory = price(question, take(everything, int(index)))
        if memory.peak_bytes * (1 + MARGIN) <= question.accelerator.memory_bytes:
            best = min(best, float(time.step_s))
    assert found.layout is not None
    _, chosen, _ = price(question, found.layout)
    assert float(chosen.step_s) == pytest.approx(best, rel=1e-12)


def test_every_candidate_is_either_priced_or_counted_under_one_reason():
    found = search(resolve(LLAMA))
    after_pricing = {name for name in found.rejected if "fit" in name}
    by_rule = sum(count for name, count in found.rejected.items() if name not in after_pricing)
    assert by_rule + found.priced == found.candidates


def test_blocks_do_not_change_the_prices(monkeypatch):
    whole = search(resolve(LLAMA))
    monkeypatch.setattr("crore.plan.search.BLOCK", 37)
    pieces = search(resolve(LLAMA))
    assert whole.layout is not None
    assert whole.layout == pieces.layout


def test_pins_are_obeyed():
    pins: dict[str, int | str] = {
        "tp": 4,
        "pp": 2,
        "recompute": "full",
        "zero": 1,
        "micro_batch": 2,
        "vpp": 1,
    }
    plan = make_plan(replace(LLAMA, fix=pins))
    shown = {key: plan.layout[key] for key in pins}
    assert shown == {**pins, "zero": "zero1"}


def test_a_hybrid_sharded_layout_can_be_pinned():
    plan = make_plan(replace(LLAMA, fix={"zero": 3, "tp": 1, "pp": 1, "cp": 1, "dp_shard": 8}))
    assert (plan.layout["dp_shard"], plan.layout["dp_replicate"]) == (8, 2)


def test_pins_that_no_layout_obeys_name_the_rule():
    with pytest.raises(Infeasible, match="is not the GPU count"):
        make_plan(replace(LLAMA, fix={"tp": 3}))


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ({"recompute": "sometimes"}, "selective"),
        ({"schedule": "2f2b"}, "1f1b"),
        ({"optimizer": "adam"}, "adamw"),
    ],
)
def test_an_unknown_word_in_a_pin_names_the_nearest(fix, words):
    with pytest.raises(UnknownName, match=words):
        make_plan(replace(LLAMA, fix=fix))


def test_what_cannot_fit_says_by_how_much_and_how_many_would_hold_the_states():
    with pytest.raises(Infeasible, match=r"GB over.*need 252 GPUs"):
        make_plan(PlanRequest(model="llama-3.1-405b", gpu="rtx-3090", gpus=8))


def test_optimizer_states_go_to_the_host_when_nothing_else_fits():
    plan = make_plan(PlanRequest(model="llama3.2-1b", gpu="rtx-3090", gpus=1))
    assert plan.layout["offload_optimizer"] == 1
    assert any("host memory" in line for line in plan.question.derived)


def test_muon_keeps_four_bytes_per_weight_less():
    request = replace(LLAMA, fix={"tp": 2, "pp": 1, "cp": 1, "zero": 0, "micro_batch": 1})
    adam = make_plan(replace(request, fix={**request.fix, "recompute": "full"}))
    muon = make_plan(
        replace(request, fix={**request.fix, "recompute": "full", "optimizer": "muon"})
    )
    saved = adam.memory_parts_bytes["optimizer"] - muon.memory_parts_bytes["optimizer"]
    assert saved == pytest.approx(adam.memory_parts_bytes["optimizer"] / 3)


def test_a_precision_the_part_lacks_is_refused():
    with pytest.raises(InputError, match="has no fp8 peak"):
        make_plan(replace(LLAMA, gpu="v100-sxm-32gb", precision="fp8"))


@pytest.mark.parametrize(("number", "expected"), [(12, [1, 2, 3, 4, 6, 12]), (7, [1, 7])])
def test_divisors_are_all_and_rising(number, expected):
    assert divisors(number, 100) == expected


def test_a_cluster_brings_gpu_count_and_network():
    question = resolve(PlanRequest(model="llama3-8b", cluster="deepseek-2k"))
    assert (question.gpus, question.accelerator.name) == (2048, "h800-sxm")
    assert question.fabric is not None
    assert question.fabric.name == "rail-400g"


def test_a_longer_way_through_the_network_costs_time():
    near, far = (
        replace(LLAMA, fabric=name, fix={"tp": 1}) for name in ("rail-400g", "fat-tree-400g")
    )
    assert make_plan(far).step_time_s > make_plan(near).step_time_s


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cluster": "colossus", "gpu": "b200-sxm"}, "has h100-sxm, not b200-sxm"),
        ({"gpu": "h100-sxm", "gpus": 100_000, "fabric": "fat-tree-400g"}, "reaches 65,536"),
        ({"gpu": "h100-sxm"}, "how many"),
    ],
)
def test_machines_that_contradict_are_refused(fields, words):
    with pytest.raises(InputError, match=words):
        make_plan(PlanRequest(model="llama3-8b", **fields))
