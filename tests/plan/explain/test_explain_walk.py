"""Asked for a number, a plan file answers with its origin; asked for none, with what it holds."""

from __future__ import annotations

import json

import pytest

import crore.plan.explain.traced as room
from crore.errors import InputError, UnknownName
from crore.io import dump_json, write_json
from crore.plan import (
    SCHEMA_VERSION,
    Explanation,
    Numbers,
    PlanRequest,
    explain_file,
    explain_record,
    make_plan,
    plan_record,
)
from crore.plan.explain.traced import difference

REQUEST = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=16, tokens=10**11, top=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    write_json(path, "plan", SCHEMA_VERSION, plan_record(make_plan(REQUEST)))
    return path


def test_a_short_key_means_the_value_with_its_interval(path):
    made = explain_file(path, "step_time_s")
    assert isinstance(made, Explanation)
    assert made.key == "step_time_s.value"
    assert made.low is not None
    assert made.high is not None
    assert made.low < made.value < made.high
    assert made.evidence == "fitted, as the step time"


def test_a_failure_rate_is_metas_count_over_their_gpu_seconds(path):
    """419 interruptions in 54 days on 16,384 GPUs (arXiv 2407.21783)."""
    made = explain_file(path, "mtbf_s")
    assert isinstance(made, Explanation)
    assert made.value == pytest.approx(16_384 * 54 * 86_400 / 419 / 16)
    assert made.citations == ("arXiv 2407.21783",)
    assert [it.key for it in made.inputs] == ["", "gpus"]


def test_a_key_above_several_numbers_lists_them(path):
    made = explain_file(path, "memory_split_bytes")
    assert isinstance(made, Numbers)
    assert {line.key for line in made.lines} >= {"memory_split_bytes.weights"}
    assert all(line.key.startswith("memory_split_bytes.") for line in made.lines)


def test_an_alternative_is_explained_by_its_own_layout(path):
    best, other = (explain_file(path, f"{where}mfu") for where in ("", "alternatives.1."))
    assert isinstance(best, Explanation)
    assert isinstance(other, Explanation)
    assert other.key == "alternatives.1.mfu"
    assert other.value < best.value
    assert other.inputs[0].key == "alternatives.1.model_flops_per_s_per_gpu"


@pytest.mark.parametrize(
    ("key", "near"), [("mfuu", "mfu"), ("step_split_s.tpp", "step_split_s.tp"), ("dayz", "days.")]
)
def test_an_unknown_number_is_met_with_the_nearest(path, key, near):
    with pytest.raises(UnknownName, match=near):
        explain_file(path, key)


def test_a_number_that_is_unknown_in_this_plan_says_so(tmp_path):
    rows = """[accelerators.mystery]
title = "M"
bf16_tflops = 400
memory_gb = 90
memory_tb_per_s = 2
host_gb_per_s = 31
node_size = 8
domain_size = 8
domain_gb_per_s = 300
nic_gbit_per_s = 400
source = "me"
date = "2026"
verified = true
"""
    own = tmp_path / "own.toml"
    own.write_text(rows)
    asked = PlanRequest(model="llama-3.1-8b", gpu="mystery", gpus=16, tokens=10**11,
                        catalog_file=own)  # fmt: skip
    other = tmp_path / "plan.json"
    write_json(other, "plan", SCHEMA_VERSION, plan_record(make_plan(asked)))
    with pytest.raises(InputError, match=r"economy\.power_w has no value in this plan"):
        explain_file(other, "economy.power_w")


def test_a_plan_of_another_catalogue_differs_in_one_sentence(path, tmp_path):
    record = json.loads(path.read_text(encoding="utf-8"))
    record["mfu"] *= 1.01
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(record), encoding="utf-8")
    made = explain_file(changed, "mfu")
    assert isinstance(made, Explanation)
    assert made.differs
    assert made.value == pytest.approx(record["mfu"] / 1.01)
    assert difference(made).endswith("the catalogue or the code has changed")
    assert explain_file(changed).differ == ("mfu",)  # type: ignore[union-attr]
    assert difference(explain_file(path)) == ""


def test_a_plan_of_another_version_names_both(path, monkeypatch, tmp_path):
    record = json.loads(path.read_text(encoding="utf-8")) | {"mfu": 0.5}
    old = tmp_path / "old.json"
    old.write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(room, "__version__", "9.9")
    said = difference(explain_file(old))
    versions = f"crore {record['crore']} wrote it, this is 9.9"
    assert said == f"made again, mfu differs from the file: {versions}"


def test_the_record_is_json_with_the_movers_and_parts(path):
    record = json.loads(dump_json("explain", 1, explain_record(explain_file(path, "step_time_s"))))
    assert record["sum"] == pytest.approx(record["value"], rel=1e-12)
    assert {it["name"] for it in record["movers"]} >= {"gemm_share", "linear_measured"}
    whole = json.loads(dump_json("explain", 1, explain_record(explain_file(path))))
    assert {"key", "value", "unit"} <= set(whole["lines"][0])
