"""A plan's numbers hang together, and its text says the verdict first."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from crore.io import dump_json
from crore.plan import PlanRequest, make_plan, plan_record, read_mission, render
from crore.plan.request import resolve

REQUEST = PlanRequest(
    model="llama-3.1-405b", gpu="h100-sxm", gpus=16384, tokens=15_600_000_000_000, seq_len=8192
)


@pytest.fixture(scope="module")
def plan():
    return make_plan(REQUEST)


def test_llama3_on_16k_gpus_lands_where_meta_reported(plan):
    """Meta printed 400 TFLOP/s and 41 % on 8,192-token sequences (arXiv 2407.21783 Table 4)."""
    assert plan.model_flops_per_s / 1e12 == pytest.approx(400, rel=0.15)
    assert plan.evidence == "extrapolated"
    assert plan.step_time_low_s < plan.step_time_s < plan.step_time_high_s


def test_parts_add_up(plan):
    assert sum(plan.step_parts_s.values()) == pytest.approx(plan.step_time_s)
    assert sum(plan.memory_parts_bytes.values()) == pytest.approx(plan.memory_bytes)
    assert plan.memory_bytes <= plan.memory_capacity_bytes


def test_rates_follow_from_the_step(plan):
    q = plan.question
    assert plan.tokens_per_s == pytest.approx(q.global_batch * q.seq_len / plan.step_time_s)
    assert plan.run_s == pytest.approx(q.tokens / plan.tokens_per_s)
    assert plan.mfu < plan.hfu < 1


def test_the_first_line_is_the_verdict(plan):
    lines = render(plan).splitlines()
    assert lines[0].startswith("FITS ")
    assert lines[0].endswith("extrapolated")
    assert max(map(len, lines)) <= 120


def test_the_record_is_json_and_holds_what_the_text_shows(plan):
    record = json.loads(dump_json("plan", 1, plan_record(plan)))
    assert record["layout"]["tp"] == plan.layout["tp"]
    assert record["step_time_low_s"] < record["step_time_s"]
    assert record["sources"]["gpu"]
    assert not [k for k, v in record.items() if isinstance(v, float) and not np.isfinite(v)]


def test_ten_million_gpus_as_one_world_do_not_work_and_the_plan_says_so():
    made = make_plan(PlanRequest(**(read_mission("ten_million") or {})))
    assert made.mtbf_s == pytest.approx(18.2, abs=0.1)
    assert made.goodput_disk < 0.01
    assert made.goodput_peer == pytest.approx(0.18, abs=0.01)
    assert "plan islands of worlds" in render(made)


def test_open_numbers_are_derived_and_every_derivation_is_printed():
    question = resolve(PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=8))
    assert question.tokens == pytest.approx(20 * 8.03e9, rel=0.01)
    assert question.global_batch & (question.global_batch - 1) == 0
    text = render(make_plan(question.request))
    for line in question.derived:
        assert line in text


def test_an_answer_does_not_depend_on_the_order_of_pins():
    first = make_plan(dataclasses.replace(REQUEST, fix={"tp": 8, "pp": 16}))
    second = make_plan(dataclasses.replace(REQUEST, fix={"pp": 16, "tp": 8}))
    assert first.layout == second.layout
