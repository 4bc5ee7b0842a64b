"""The JSON of a plan holds every number asked for, finite, and the request to make it again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from crore import __version__
from crore.cli.document import constants_sha256, dumped
from crore.plan import SCHEMA_VERSION, Limits, PlanRequest, make_plan, plan_record
from crore.plan.record import layout_record, verdict
from crore.units import three_digits

REQUEST = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12, global_batch=64, top=3,
    fix={"recompute": "full"},
)  # fmt: skip
FLEET = replace(
    REQUEST, gpus=64, stack="crore", top=1, limits=Limits(world_gpus=16), fix={"islands": 2}
)
ASKED = [
    "verdict",
    "model",
    "gpu",
    "gpus",
    "worlds",
    "islands",
    "stack",
    "layout",
    "global_batch_tokens",
    "step_time_s",
    "step_split_s",
    "tokens_per_s",
    "mfu",
    "hfu",
    "memory_bytes_per_gpu",
    "memory_split_bytes",
    "goodput",
    "days",
    "fabric",
    "limits",
    "evaluated",
    "rejected",
    "search_cpu_s",
    "schema",
    "crore",
    "constants_sha256",
    "command",
]
LAYOUT = [
    "pp",
    "vpp",
    "schedule",
    "dp_replicate",
    "dp_shard",
    "zero",
    "cp",
    "tp",
    "ep",
    "micro_batch",
    "recompute",
    "precision",
]


@pytest.fixture(scope="module")
def answer():
    return make_plan(REQUEST)


@pytest.fixture(scope="module")
def record(answer):
    """What a reader of the file sees."""
    return json.loads(dumped("plan", SCHEMA_VERSION, plan_record(answer)))


def numbers(value):
    """Return every number anywhere inside a document."""
    if isinstance(value, dict):
        return [n for inner in value.values() for n in numbers(inner)]
    if isinstance(value, list):
        return [n for inner in value for n in numbers(inner)]
    return [value] if isinstance(value, int | float) else []


def test_every_key_asked_for_is_there(record):
    assert [key for key in ASKED if key not in record] == []
    assert [key for key in LAYOUT if key not in record["layout"]] == []
    for key in ("step_time_s", "days"):
        assert {"value", "low", "high"} <= record[key].keys()
        assert record[key]["low"] <= record[key]["value"] <= record[key]["high"]
    assert record["step_time_s"]["evidence"] in {"fitted", "extrapolated"}


def test_a_document_says_what_wrote_it_from_which_figures(record):
    assert record["schema"] == f"crore.plan/{SCHEMA_VERSION}"
    assert record["crore"] == __version__
    assert record["constants_sha256"] == constants_sha256()
    assert record["command"] == "crore"


@pytest.mark.parametrize("request_", [REQUEST, FLEET], ids=["world", "fleet"])
def test_every_number_is_finite(request_):
    body = plan_record(make_plan(request_))
    text = dumped("plan", SCHEMA_VERSION, body)  # refuses NaN and infinity
    found = numbers(json.loads(text))
    assert len(found) > 100
    assert np.isfinite(found).all()


def test_splits_add_up_in_the_file_too(record):
    assert sum(record["step_split_s"].values()) == pytest.approx(record["step_time_s"]["value"])
    assert sum(record["memory_split_bytes"].values()) == pytest.approx(
        record["memory_bytes_per_gpu"]
    )


def test_a_layout_is_whole_numbers_and_words(record):
    layout = record["layout"]
    axes = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "micro_batch")
    assert all(isinstance(layout[axis], int) for axis in axes)
    assert (layout["recompute"], layout["precision"]) == ("full", "bf16")
    assert layout["zero"] in {"none", "zero1", "zero2", "zero3"}
    assert layout["dp"] == layout["dp_replicate"] * layout["dp_shard"]


def test_full_recompute_of_all_layers_is_a_count(answer):
    q, chosen = answer.question, answer.plan.chosen
    every = replace(chosen, layout=replace(chosen.layout, recompute=3.0, recompute_layers=-1.0))
    assert layout_record(q, every, 32.0)["recompute_layers"] == 32
    none = replace(chosen, layout=replace(chosen.layout, recompute=0.0, recompute_layers=-1.0))
    assert layout_record(q, none, 32.0)["recompute_layers"] == 0


def test_the_other_plans_stand_beside_the_best(answer, record):
    assert len(record["alternatives"]) == len(answer.plans) - 1 == 2
    for other, plan in zip(record["alternatives"], answer.plans[1:], strict=True):
        assert other["layout"]["tp"] == plan.layout["tp"]
        assert other["days"]["value"] >= record["days"]["value"]


def test_the_verdict_says_memory_days_and_how_sure(answer):
    plan = answer.plan
    said = verdict(plan)
    assert said.startswith("FITS  ")
    assert f"{plan.memory_bytes / 1e9:.1f} GB of 85.5 GB per GPU" in said
    assert f"{three_digits(plan.days.value)} days ({three_digits(plan.days.low)} to " in said
    assert said.endswith(plan.days.evidence)


def test_the_request_in_a_file_makes_the_same_plan_again(answer, record):
    asked = dict(record["request"])
    asked["limits"] = Limits(**asked["limits"])
    again = make_plan(PlanRequest(**asked))
    assert again.request == answer.request
    assert [p.layout for p in again.plans] == [p.layout for p in answer.plans]
    assert again.plan.run_s == answer.plan.run_s


def test_a_fleet_says_how_its_islands_meet():
    record = plan_record(make_plan(FLEET))
    assert record["islands"] == 2
    assert record["worlds"] >= 4
    assert set(record["outer_step"]) == {"interval", "bits", "outer_s", "exposed_s"}
    learned = record["learning_efficiency"]
    assert 0 < learned["low"] <= learned["value"] <= learned["high"]


def test_one_island_has_no_outer_step(record):
    assert record["outer_step"] is None
    assert record["learning_efficiency"] == {"low": 1, "value": 1, "high": 1}


def test_a_chosen_network_comes_with_its_bill(record):
    fabric = record["fabric"]
    assert fabric["chosen"]
    total = sum(item["total_usd"] for item in fabric["bill_of_materials"])
    assert total == pytest.approx(fabric["price_usd"]["value"])


def test_a_named_network_says_where_it_is_from():
    fabric = plan_record(make_plan(replace(REQUEST, top=1, fabric="rail-400g")))["fabric"]
    assert (fabric["name"], fabric["chosen"]) == ("rail-400g", False)
    assert fabric["source"]


def test_every_name_has_its_source(record):
    assert {"model", "gpu", "stack", "constants"} <= record["sources"].keys()
    assert all(record["sources"].values())
