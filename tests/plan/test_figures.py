"""What a plan takes: every figure with its range, its source and what moves it, at every scale."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from crore.io import write_json
from crore.plan import SCHEMA_VERSION, PlanRequest, make_plan, plan_record, read_mission
from crore.plan.explain.walk import Explained
from crore.plan.figures import FIGURES, figures_of
from crore.plan.text.plan import render
from crore.plan.text.takes import ranged

FINE_TUNE = {"model": "qwen2.5-0.5b", "gpu": "rtx-3090", "gpus": 1, "tokens": 10**8}
RENTED = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpus": 512, "tokens": 10**12,
          "basis": "rented"}  # fmt: skip
UNPRICED = {"model": "llama-3.1-8b", "gpu": "h800-sxm", "gpus": 512, "tokens": 10**12}
ASKED = {
    "fine-tune": FINE_TUNE,
    "rented": RENTED,
    "rented, as it has no price": UNPRICED,
    "llama3_405b": read_mission("llama3_405b") or {},
    "ten_million": read_mission("ten_million") or {},
}
EVERY = ("cost_usd", "power_w", "energy_j", "co2_kg", "sites", "ready_year")


@pytest.fixture(scope="module", params=ASKED)
def answer(request):
    return make_plan(PlanRequest(**ASKED[request.param]))


def test_every_figure_has_a_range_and_a_source(answer):
    record = plan_record(answer)
    for key in EVERY:
        one = record[key]
        assert one is not None, key
        assert one["p10"] <= one["p50"] <= one["p90"]
        assert one["p10"] <= one["likely"] <= one["p90"] or key in ("sites", "ready_year")
        if one["moved_by"]:
            assert len(one["moved_by"]["source"]) > 5
    assert answer.plan.economy.usd is not None
    assert record["cost_usd"]["likely"] == pytest.approx(answer.plan.economy.usd[1])
    assert record["power_w"]["likely"] == pytest.approx(answer.plan.economy.power_w)
    assert record["energy_j"]["likely"] == pytest.approx(answer.plan.economy.energy_j)


def test_dollars_split_without_rest(answer):
    record = plan_record(answer)
    if answer.plan.economy.usd_basis == "rented":
        assert record["cost_split_usd"] == {}
        assert record["capital_usd"] is None
    else:
        assert sum(record["cost_split_usd"].values()) == pytest.approx(record["cost_usd"]["likely"])
        bought = sum(record["capital_split_usd"].values())
        assert bought == pytest.approx(record["capital_usd"]["likely"])
        assert min(record["capital_split_usd"].values()) >= 0


def test_every_figure_is_traced_to_inputs_with_an_origin(answer, tmp_path):
    path: Path = tmp_path / "plan.json"
    write_json(path, "plan", SCHEMA_VERSION, plan_record(answer))
    file = Explained(json.loads(path.read_text(encoding="utf-8")), str(path))
    for key in EVERY:
        made = file.explain(f"{key}.p50")
        assert not made.differs
        assert made.unit
        assert made.inputs
        assert all(one.origin for one in made.inputs)


def test_the_text_says_them_with_their_ranges(answer):
    text = render(answer)
    for words in ("at the meter", "CO2", "site", "delivered by", "per 1e24 FLOP", "moved most by"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 120


def test_ten_million_are_gigawatts_and_years_away():
    plan = make_plan(PlanRequest(**ASKED["ten_million"])).plan
    found = figures_of(plan).taken
    assert set(found) == set(FIGURES)
    sites, ready, capital = (found[key] for key in ("sites", "ready_year", "capital_usd"))
    assert sites is not None
    assert ready is not None
    assert capital is not None
    assert 5 <= sites.p10 <= sites.p90 <= 30
    assert ready.p50 > 2030
    assert capital.p10 < 819e9 < capital.p90
    assert ranged(sites, lambda n: f"{n:.0f}").count(" to ") == 1


def test_what_is_unknown_is_null_and_has_no_line():
    record = plan_record(make_plan(PlanRequest(model="gpt2", gpu="tpu-v4", gpus=8, tokens=10**9)))
    assert record["power_w"] is None
    assert record["load"] is None
    assert math.isfinite(record["ready_year"]["p50"])
