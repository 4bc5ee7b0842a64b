"""What a page says: each number as text, the same as the plans it comes from."""

from __future__ import annotations

import copy
import itertools
import json
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from crore.catalog import load_catalog
from crore.errors import InputError
from crore.plan import PlanRequest, make_plan, plan_record
from crore.plan.economy import full_load_w
from crore.plan.record import whole_record
from crore.plan.sweep import AtCount
from crore.plan.text.takes import SWING_W
from crore.report.markdown import markdown, point_of
from crore.report.sheet import sheet_of
from crore.report.sweeping import alone, entries, read_sweep, sweep_record, with_plan
from crore.report.swing import peak_w, swings
from crore.report.tiers import tiers
from crore.units import format_int, format_watts

Record = dict[str, Any]
EIGHT_B = PlanRequest(
    model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=10**11, title="Eight billion"
)


@pytest.fixture(scope="module")
def swept() -> Record:
    """A sweep of a small model: it fits on one GPU and wants no ten million."""
    return sweep_record(EIGHT_B)


@pytest.fixture(scope="module")
def sheet(swept: Record) -> Record:
    return sheet_of(swept, "mission")


def test_a_sweep_has_71_counts_and_one_entry_for_each_that_differs(swept):
    assert len(swept["counts"]) == 71
    assert [entry["gpus"] for entry in swept["at"]] == sorted(set(swept["counts"]))
    assert 64 in swept["counts"]
    assert swept["counts"][-1] == 10_000_000


def test_an_entry_is_the_plan_of_that_count(swept):
    for gpus in (1, 64, 1024):
        [entry] = [it for it in swept["at"] if it["gpus"] == gpus]
        request = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=gpus, tokens=10**11)
        assert entry["plan"]["days"] == whole_record(make_plan(request).plan)["days"]


def test_more_gpus_never_take_longer_as_the_others_may_idle(swept):
    days = [entry["plan"]["days"]["value"] for entry in entries(swept) if entry["plan"]]
    assert all(after <= before for before, after in itertools.pairwise(days))
    idle = [entry for entry in entries(swept) if entry["idle"]]
    assert idle
    assert all(entry["plan"]["gpus"] < entry["gpus"] for entry in idle)


def test_a_sweep_is_taken_up_where_it_was_left(swept, tmp_path, monkeypatch):
    kept = tmp_path / "sweep.json"
    half = {**swept, "at": swept["at"][:30]}
    kept.write_text(json.dumps({"schema": "crore.sweep/1", "crore": "0", **half}))
    asked: list[int] = []

    def nothing(_: PlanRequest, counts: list[int]) -> tuple[()]:
        asked.extend(counts)
        return ()

    monkeypatch.setattr("crore.report.sweeping.sweep", nothing)
    sweep_record(EIGHT_B, kept)
    assert asked == [entry["gpus"] for entry in swept["at"][30:]]


def test_a_sweep_that_is_stopped_keeps_what_it_has(tmp_path, monkeypatch):
    kept = tmp_path / "sweep.json"

    def stopped(_, counts):
        yield AtCount(gpus=counts[0], plan=None, reason="nothing")
        raise KeyboardInterrupt

    monkeypatch.setattr("crore.report.sweeping.sweep", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep_record(EIGHT_B, kept)
    _, record = read_sweep(kept)
    assert [entry["gpus"] for entry in record["at"]] == [1]


def test_the_sweep_of_another_request_is_not_taken_up(swept, tmp_path):
    kept = tmp_path / "sweep.json"
    kept.write_text(json.dumps({"schema": "crore.sweep/1", "crore": "0", **swept}))
    other = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=2 * 10**11)
    with pytest.raises(InputError, match="another request"):
        sweep_record(other, kept)


@pytest.mark.parametrize("damage", [{"at": 3}, {"counts": None}, {"at": [{"gpus": "x"}]}])
def test_a_damaged_sweep_is_one_line(swept, tmp_path, damage):
    kept = tmp_path / "sweep.json"
    kept.write_text(json.dumps({"schema": "crore.sweep/1", "crore": "0", **swept, **damage}))
    with pytest.raises(InputError, match="no whole sweep"):
        read_sweep(kept)


def test_the_page_fits_what_memory_holds(sheet):
    for k in range(len(sheet["points"])):
        it = point_of(sheet, k)
        if it["state"] in ("fits", "idle"):
            assert it["memory"]["used"] <= it["memory"]["usable"] < it["memory"]["capacity"]
            parts = sum(part[1] for part in it["memory"]["parts"])
            assert parts == pytest.approx(it["memory"]["capacity"], rel=5e-3)
            assert it["verdict"].startswith("FITS")
        elif it["state"] == "short":
            assert it["memory"]["used"] > it["memory"]["usable"]
            assert it["verdict"].startswith("DOES NOT FIT")


def test_steps_add_up(sheet):
    for it in sheet["points"]:
        if it.get("step"):
            assert sum(part[1] for part in it["step"]["parts"]) == pytest.approx(1, abs=0.01)


def test_axes_hold_every_point(sheet):
    axes = sheet["axes"]
    for it in sheet["points"]:
        assert axes["gpus"]["domain"][0] <= it["gpus"] <= axes["gpus"]["domain"][1]
        for key, axis in (("days", "days"), ("usd", "usd"), ("power_w", "power")):
            low, high = axes[axis]["domain"]
            assert all(low <= value <= high for value in it.get(key) or [])
    for axis in axes.values():
        assert 2 <= len(axis["ticks"]) <= 12
        assert all(isinstance(text, str) and text for _, text in axis["ticks"])


def test_goodput_lies_in_its_band(sheet):
    for it in sheet["points"]:
        if it.get("goodput_band"):
            low, high = it["goodput_band"]
            assert 0 <= low <= it["goodput"]["plan"] <= high <= 1


def test_what_is_new_is_told_once(sheet):
    told = [line for it in sheet["points"] for line in it["news"]]
    assert told
    assert len(told) == len({line.partition(":")[0] for line in told})
    assert point_of(sheet, 0)["news"][0].startswith("it fits")


def test_a_count_that_idles_says_how_many(sheet):
    idle = [it for it in sheet["points"] if it["state"] == "idle"]
    for it in idle:
        whole = {**sheet["points"][it["like"]], **it}
        assert f"{it['gpus'] - whole['used']:,} of {it['gpus']:,} GPUs idle" in it["verdict"]


def test_the_words_come_first_and_say_what_a_reader_asks(sheet):
    words = " ".join(sheet["summary"])
    own = point_of(sheet, sheet["own"])
    values = {fact[0]: fact[1] for fact in own["facts"]}
    for key in ("memory", "days", "cost_usd", "power_w", "goodput"):
        assert values[key] in words
    assert "What breaks first" in words
    assert "How sure" in words


def test_markdown_says_the_same(sheet):
    text = markdown({**sheet, "reproduce": [["command", "crore report x"]]})
    own = point_of(sheet, sheet["own"])
    assert text.startswith("# Eight billion\n")
    for fact in own["facts"]:
        assert fact[1].replace("<", "\\<") in text
    for line in sheet["not_modelled"]:
        assert line in text


def test_markdown_has_no_markup_of_a_title(sheet):
    text = markdown({**sheet, "title": "<b>x</b> | `y`", "reproduce": []})
    assert text.startswith("# \\<b\\>x\\</b\\> \\| \\`y\\`\n")


def test_a_short_sweep_points_to_the_first_that_fits(monkeypatch):
    request = PlanRequest(model="llama-3.1-405b", gpu="h100-sxm", gpus=16_384, tokens=10**12)
    monkeypatch.setattr("crore.report.sweeping.grid_counts", lambda own: (1, 64, own))
    made = sweep_record(request)
    sheet = sheet_of(made, "mission")
    first = next(it for it in sheet["points"] if it["state"] == "fits")
    short = sheet["points"][0]
    assert short["state"] == "short"
    assert f"{first['gpus']:,} GPUs" in short["change"][0]
    assert short["facts"] == []
    assert short["days"] is None


def test_a_plan_file_keeps_its_plan_whatever_the_search_finds(swept):
    request = PlanRequest(
        model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=10**11, fix={"tp": 8}
    )
    body = json.loads(json.dumps(plan_record(make_plan(request)), default=str))
    sheet = sheet_of(with_plan(copy.deepcopy(swept), body), "plan")
    own = point_of(sheet, sheet["own"])
    assert own["gpus"] == 64
    assert "tp 8" in own["layout"]
    assert own["state"] == "fits"


def test_a_plan_alone_is_a_page_of_one_point():
    body = json.loads(json.dumps(plan_record(make_plan(EIGHT_B)), default=str))
    sheet = sheet_of(alone(body), "plan")
    assert len(sheet["points"]) == 1
    assert sheet["positions"] == [0]
    assert sheet["points"][0]["verdict"] == body["verdict"]


def test_what_is_extrapolated_is_a_stretch_of_counts_and_said_in_words(sheet, swept):
    lines = sheet["lines"]
    seen = {entry["gpus"]: entry["plan"]["days"]["evidence"] for entry in entries(swept)}
    assert {"fitted", "extrapolated"} == set(seen.values())
    for gpus, evidence in seen.items():
        inside = any(first <= gpus <= last for first, last in lines["beyond"])
        assert inside == (evidence == lines["beyond_word"]), gpus
    first, last = lines["beyond"][-1]
    assert f"{first:,} to {last:,} GPUs" in lines["beyond_text"]
    for key in ("goodput", "pareto"):
        assert lines["beyond_text"].removeprefix("hatched: ") in sheet["tables"][key]["caption"]


@pytest.mark.parametrize("gpu", ["h100-sxm", "gb200-nvl72"])
def test_a_peak_is_to_the_average_as_full_load_is_to_the_likely_one(gpu):
    plan = make_plan(replace(EIGHT_B, gpu=gpu, gpus=72)).plan
    full = full_load_w(plan.question)
    assert full is not None
    record = whole_record(plan)
    average = record["power_w"]
    over = plan.gpus * full / average["likely"]
    assert over > 1
    assert peak_w(record) == pytest.approx(over * average["p50"], rel=1e-9)
    assert peak_w({**record, "load": None}) is peak_w(None) is None


def test_a_load_that_swings_is_told_beside_the_average():
    answer = make_plan(replace(EIGHT_B, gpus=16_384, tokens=10**13))
    plan = whole_record(answer.plan)
    assert plan["load"]["swing_w"] > SWING_W
    said = swings(plan)
    assert said.startswith(f"{format_watts(peak_w(plan) or 0)} at its peak, while all compute")
    assert format_watts(plan["load"]["swing_w"]) in said
    sheet = sheet_of(alone(json.loads(json.dumps(plan_record(answer)))), "plan")
    [why] = [fact[4] for fact in sheet["points"][0]["facts"] if fact[0] == "power_w"]
    assert why.endswith(f"; {format_watts(peak_w(plan) or 0)} at its peak")
    assert why in markdown({**sheet, "reproduce": []})
    assert f"Its load is {said}." in sheet["summary"]
    assert sheet["lines"]["peaks"][0][1] <= sheet["axes"]["power"]["domain"][1]
    assert format_watts(peak_w(plan) or 0) in sheet["tables"]["pareto"]["rows"][0]


def test_a_load_that_does_not_swing_has_no_peak():
    plan = whole_record(make_plan(PlanRequest(model="gpt2", gpu="rtx-3090", gpus=1, seq_len=1024,
                                              tokens=10**9)).plan)  # fmt: skip
    assert peak_w(plan) is None
    assert swings(plan) == ""


def test_who_rents_is_told_the_rental_and_nothing_of_a_purchase():
    body = json.loads(json.dumps(plan_record(make_plan(replace(EIGHT_B, basis="rented")))))
    sheet = sheet_of(alone(body), "plan")
    assert sheet["scenario"]["basis"] == "rented"
    keys = [fact[0] for fact in sheet["points"][0]["facts"]]
    assert "cost_usd" in keys
    assert not {"capital_usd", "rental_usd"} & set(keys)
    assert any(line.startswith("It costs $") and line.endswith(", rented.")
               for line in sheet["summary"])  # fmt: skip
    names = [row[0] for row in sheet["assumptions"]["rows"]]
    assert "rental" in names
    assert "upkeep" not in names


def test_tiers_nest_and_carry_every_axis():
    plan = whole_record(make_plan(PlanRequest(model="llama-3.1-405b", gpu="h100-sxm", gpus=16_384,
                                              tokens=10**12)).plan)  # fmt: skip
    rows = tiers(plan, load_catalog())
    assert rows[0]["tier"] == "GPU"
    assert rows[-1]["size_text"] == format_int(plan["gpus"])
    carried = ", ".join(row["axes"] for row in rows)
    for axis in ("tp", "cp", "dp", "pp"):
        assert (plan["layout"][axis] > 1) == (axis in carried)


def test_a_sheet_is_as_its_schema_says(sheet):
    schema = json.loads((files("crore") / "schemas" / "report.json").read_text(encoding="utf-8"))
    head = {"schema": "crore.report/1", "crore": "0", "command": "", "constants_sha256": ""}
    replay = {"request": {}, "alone": False, "plan": None}
    jsonschema.validate({**head, **sheet, "reproduce": [], "replay": replay}, schema)
    assert {"like", "verdict"} <= {key for it in sheet["points"] for key in it}


def test_sheets_are_small(sheet):
    assert len(json.dumps(sheet, separators=(",", ":"), ensure_ascii=False)) < 180_000


def test_a_saved_sweep_becomes_a_page_soon(swept, tmp_path):
    kept = tmp_path / "sweep.json"
    kept.write_text(json.dumps({"schema": "crore.sweep/1", "crore": "0", **swept}))
    began = time.process_time()
    _, record = read_sweep(Path(kept))
    sheet_of(record, "mission")
    assert time.process_time() - began < 5
