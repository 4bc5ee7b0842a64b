"""From one GPU to ten million: what appears on the way, how long a page takes, how large it is."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from crore.plan import PlanRequest, read_mission
from crore.report import page, sheet_of, sweep_record
from crore.report.markdown import point_of

Record = dict[str, Any]
pytestmark = pytest.mark.drill
MOST_SWEEP_S = 60.0
MOST_PAGE_S = 5.0
MOST_BYTES = 500_000


def made(mission: str) -> tuple[Record, float, float, int]:
    """Return (sheet, CPU seconds of the sweep, of the page, bytes) of a mission."""
    fields = read_mission(mission)
    assert fields is not None
    began = time.process_time()
    swept = sweep_record(PlanRequest(**fields))
    searched = time.process_time()
    sheet = sheet_of(swept, "mission")
    head = {"schema": "crore.report/1", "crore": "0", "command": "", "constants_sha256": ""}
    text = page({**head, **sheet, "reproduce": [], "replay": {}})
    done = time.process_time()
    return sheet, searched - began, done - searched, len(text.encode())


@pytest.fixture(scope="module")
def ten_million() -> tuple[Record, float, float, int]:
    return made("ten_million")


def first_with(sheet: Record, words: str) -> int:
    """Return the number of GPUs at which something is new."""
    return next(
        int(it["gpus"]) for it in sheet["points"] if any(words in line for line in it["news"])
    )


def test_a_page_of_ten_million_costs_a_minute_and_half_a_megabyte(ten_million, record_property):
    _, searched_s, page_s, size = ten_million
    record_property("sweep_cpu_s", searched_s)
    assert searched_s <= MOST_SWEEP_S
    assert page_s <= MOST_PAGE_S
    assert size <= MOST_BYTES


def test_what_ten_million_gpus_bring_comes_where_it_matters(ten_million):
    sheet = ten_million[0]
    assert sheet["points"][0]["state"] == "short"
    assert any("crore fit" in line for line in sheet["points"][0]["change"])
    assert 1_000 <= first_with(sheet, "it fits") <= 10_000
    assert first_with(sheet, "failures cost a visible share") <= 10_000
    assert 10_000 <= first_with(sheet, "more than once an hour") <= 100_000
    assert 10_000 < first_with(sheet, "several worlds") <= 20_000
    assert 1_000_000 <= first_with(sheet, "more than once a minute") <= 10_000_000
    assert 100_000 <= first_with(sheet, "a power station's output") <= 1_000_000
    assert 100_000 <= first_with(sheet, "islands that meet") <= 1_000_000
    assert 100_000 <= first_with(sheet, "more than one site") <= 10_000_000
    assert 1_000_000 <= first_with(sheet, "supply has to deliver") <= 10_000_000
    last = point_of(sheet, len(sheet["points"]) - 1)
    assert {fact[0]: fact[3] for fact in last["facts"]}["days"] == "extrapolated"
    assert last["goodput"]["restart from disk"] < 0.01 < 0.9 < last["goodput"]["plan"]
    assert "outer step" in last["fabric"][-1]["axes"]


def test_llama_405b_grows_one_axis_after_the_other():
    sheet, searched_s, _, size = made("llama3_405b")
    assert searched_s <= MOST_SWEEP_S
    assert size <= MOST_BYTES
    assert first_with(sheet, "tensor parallelism") <= 72
    assert first_with(sheet, "a pipeline") <= 72
    assert first_with(sheet, "data parallelism") <= 1_000
    assert first_with(sheet, "failures cost a visible share") <= 10_000
    own = point_of(sheet, sheet["own"])
    assert own["gpus"] == 16_384


def test_a_small_model_hits_the_wall_of_its_batch():
    request = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=10**11)
    sheet = sheet_of(sweep_record(request), "mission")
    wall = first_with(sheet, "more GPUs than this model and batch can use")
    assert 1_000 < wall <= 1_000_000
    assert sheet["points"][-1]["state"] == "idle"


def test_a_13b_on_one_3090_does_not_fit_and_is_told_what_does():
    request = PlanRequest(model="baichuan-13b", gpu="rtx-3090", gpus=1, tokens=10**8)
    sheet = sheet_of(sweep_record(request), "mission")
    first = sheet["points"][0]
    assert first["state"] == "short"
    assert first["memory"]["used"] > first["memory"]["usable"]
    assert any("crore fit" in line for line in first["change"])
    assert next(it for it in sheet["points"] if it["state"] == "fits")["gpus"] > 1
    assert json.dumps(sheet, allow_nan=False)
