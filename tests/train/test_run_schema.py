"""The shipped schema describes the lines of run.jsonl, key by key."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import get_args

import pytest
from jsonschema import Draft202012Validator
from tests.train.feed import CHECKPOINT, END, EVAL, SAMPLE, START, STEP

from crore.train.lines import KINDS, line_of, record_of
from crore.train.records import EndReason, Event, EventKind, Record

SCHEMA = json.loads((files("crore") / "schemas" / "run.json").read_text(encoding="utf-8"))
VALID = Draft202012Validator(SCHEMA)
SKIP = Event(step=1, what="skip", message="gradient not finite")
RECORDS: tuple[Record, ...] = (
    START, replace(START, prediction=None, peak_flops=1e12), STEP,
    replace(STEP, loss=float("nan"), mfu=0.4, bits_per_byte=None, predicted_step_time_s=None),
    replace(STEP, worlds=(0, 2), own_samples=(4, 8)),
    EVAL, SAMPLE, CHECKPOINT, SKIP, replace(SKIP, what="roll back", first_sample=8, samples=16),
    END, replace(END, reason="left", checksum=123),
)  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda it: it.kind)
def test_each_record_is_as_the_schema_says(record):
    line = json.loads(line_of(record))
    assert [error.message for error in VALID.iter_errors(line)] == []
    for key in line:
        assert not VALID.is_valid({k: v for k, v in line.items() if k != key}), key
    assert not VALID.is_valid({**line, "other": 1})


@pytest.mark.parametrize("what", get_args(EventKind))
def test_every_kind_of_event_is_in_the_schema(what):
    assert VALID.is_valid(json.loads(line_of(replace(SKIP, what=what))))


@pytest.mark.parametrize("reason", get_args(EndReason))
def test_every_reason_to_end_is_in_the_schema(reason):
    assert VALID.is_valid(json.loads(line_of(replace(END, reason=reason))))


@pytest.mark.parametrize("wrong", [{"worlds": [-1]}, {"own_samples": [4]}, {"worlds": "all"}])
def test_worlds_and_samples_that_are_none_are_refused(wrong):
    assert not VALID.is_valid({**json.loads(line_of(STEP)), **wrong})


def test_a_step_of_a_world_of_a_fleet_is_read_as_it_was_told():
    told = replace(STEP, worlds=(0, 2), own_samples=(4, 8))
    assert record_of(line_of(told), "run-0.jsonl") == told
    assert record_of(line_of(STEP), "run.jsonl") == STEP


def test_the_schema_has_a_branch_for_each_kind_in_the_order_of_the_lines():
    assert [branch["title"] for branch in SCHEMA["oneOf"]] == list(KINDS)
    lines = {record.kind: json.loads(line_of(record)) for record in RECORDS}
    for branch in SCHEMA["oneOf"]:
        own = sorted(lines[branch["title"]])
        assert sorted(branch["properties"]) == own
