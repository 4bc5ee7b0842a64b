"""A plan file is made again from what it says, and a broken one is refused in one line."""

from __future__ import annotations

import copy
import json

import pytest

from crore.errors import InputError, UnknownName
from crore.io import dump_json
from crore.plan import SCHEMA_VERSION, PlanRequest, make_plan, plan_record
from crore.plan.explain.again import case_of, leaves
from crore.plan.saved import request_from

REQUEST = PlanRequest(
    model="llama-3.1-8b", gpu="h100-sxm", gpus=16, tokens=10**11, top=3, fix={"tp": 2}
)


@pytest.fixture(scope="module")
def record():
    return json.loads(dump_json("plan", SCHEMA_VERSION, plan_record(make_plan(REQUEST))))


def test_the_request_survives_the_file(record):
    assert request_from(record["request"], "plan.json") == REQUEST


def test_every_alternative_is_made_again_exactly(record):
    assert len(record["alternatives"]) == 2
    for place, other in enumerate(record["alternatives"], 1):
        made = case_of(record, "plan.json", place).numbers
        assert {k: made[k] for k in leaves(other)} == leaves(other)


def test_a_plan_on_fewer_gpus_than_asked_for_is_made_again():
    asked = PlanRequest(
        model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=10**11, objective="cheapest", top=2
    )
    record = json.loads(dump_json("plan", SCHEMA_VERSION, plan_record(make_plan(asked))))
    assert record["gpus_available"] < 64
    assert case_of(record, "plan.json").numbers["days.value"] == record["days"]["value"]


def test_keys_name_members_by_name_by_spread_or_by_place():
    record = {"a": [{"name": "x", "v": 1}, {"v": 2}], "b": [1.0, 2.0, 3.0], "c": True, "d": None}
    assert leaves(record) == {"a.x.v": 1, "a.2.v": 2, "b.low": 1.0, "b.value": 2.0, "b.high": 3.0}


@pytest.mark.parametrize(
    ("path", "value", "error", "says"),
    [
        (("layout", "tp"), 3, InputError, "GPUs on 1 islands, not the 16"),
        (("layout", "tp"), 0, InputError, "tp must be a whole number of at least 1"),
        (("layout", "tp"), "two", InputError, "tp must be a number"),
        (("layout", "tp"), None, InputError, "tp must be a number"),
        (("layout", "zero"), "zero9", UnknownName, "zero3"),
        (("layout",), [], InputError, "layout must be an object"),
        (("gpus",), "many", InputError, "gpus must be a number"),
        (("islands",), 0, InputError, "GPUs on 0 islands"),
        (("request",), 5, InputError, "request must be an object"),
        (("request", "gpus"), "lots", InputError, "gpus: "),
        (("request", "limits"), {"watts": 1}, UnknownName, "watts"),
        (("request", "colour"), 1, UnknownName, "colour"),
        (("request", "gpu"), "h1000", UnknownName, "h100"),
    ],
)
def test_a_broken_plan_is_refused_with_what_is_wrong(record, path, value, error, says):
    broken = copy.deepcopy(record)
    *above, last = path
    inner = broken
    for name in above:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(error, match=says) as caught:
        case_of(broken, "plan.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 240


@pytest.mark.parametrize("key", ["request", "layout", "gpus", "worlds"])
def test_a_plan_that_lacks_something_is_refused(record, key):
    with pytest.raises(InputError, match=f"lacks {key}"):
        case_of({k: v for k, v in record.items() if k != key}, "plan.json")


def test_a_layout_that_lacks_an_axis_is_refused(record):
    layout = {k: v for k, v in record["layout"].items() if k != "pp"}
    with pytest.raises(InputError, match="layout lacks pp"):
        case_of({**record, "layout": layout}, "plan.json")
