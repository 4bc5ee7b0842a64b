"""An explanation reads top down: the number, how, from what, made of what."""

from __future__ import annotations

import pytest

from crore.io import write_json
from crore.plan import (
    SCHEMA_VERSION,
    PlanRequest,
    explain_file,
    make_plan,
    plan_record,
    read_mission,
    render_explained,
)
from crore.plan.explain.text import plain, quantity

PLANS = {
    "small": {"model": "llama-3.1-8b", "gpu": "h100-sxm", "gpus": 16, "tokens": 10**11},
    "fleet": read_mission("ten_million") or {},
}


@pytest.fixture(scope="module", params=PLANS)
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    write_json(
        path, "plan", SCHEMA_VERSION, plan_record(make_plan(PlanRequest(**PLANS[request.param])))
    )
    return path


def test_the_list_fits_a_screen_and_leaves_out_no_number_worth_one(path):
    made = explain_file(path)
    lines = render_explained(made).splitlines()
    assert lines[0].startswith("FITS ")
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120
    listed = [line.key.removesuffix(".value") for line in made.lines if line.listed]  # type: ignore[union-attr]
    text = "\n".join(lines)
    assert [key for key in listed if f" {key} " not in text] == []


@pytest.mark.parametrize(
    "key", ["step_time_s", "step_split_s.products", "days", "goodput", "fabric.price_usd", "mfu",
            "memory_split_bytes.activations", "economy.usd_per_gpu_hour", "limits.data"]
)  # fmt: skip
def test_an_explanation_is_at_most_120_columns(path, key):
    lines = render_explained(explain_file(path, key)).splitlines()
    assert lines[0].startswith(key)
    assert max(map(len, lines)) <= 120


def test_the_sum_is_printed_beside_the_number(path):
    made = explain_file(path, "step_time_s")
    text = render_explained(made)
    assert f"{made.sum!r} of the parts against {made.value!r} of the number" in text  # type: ignore[union-attr]


def test_an_operation_list_shows_the_largest_eight_and_the_rest(path):
    text = render_explained(explain_file(path, "step_split_s.memory passes"))
    block = text[text.index("made of") :].splitlines()
    assert "more" in block[9]
    assert block[10].startswith("sum")


def test_a_source_is_printed_once(path):
    text = render_explained(explain_file(path, "step_time_s"))
    assert "as linear_measured" in text or "as domain_bytes_per_s" in text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.2871, "share", "28.7 %"),
        (4.3e-16, "share", "4.30e-16 share"),
        (68.6e9, "bytes", "68.6 GB"),
        (198e9, "bytes per GPU", "198 GB per GPU"),
        (2e12, "bytes/s", "2.00 TB/s"),
        (16.8e6, "tokens per step and island", "16.8M tokens per step and island"),
        (2.52, "USD/GPU-hour", "$2.52/GPU-hour"),
        (20e9, "W", "20.0 GW"),
        (16.06, "s", "16.1 s"),
        (1856, "", "1,856"),
    ],
)
def test_numbers_carry_their_units(value, unit, text):
    assert quantity(value, unit) == text


def test_inputs_show_what_went_in():
    assert plain((1.1, 1.25, 1.56)) == "1.1, 1.25, 1.56"
    assert plain(("tp", "cp")) == "tp, cp"
    assert plain(5.481337977e-09) == "5.48134e-09"
    assert plain(86_400.0) == "86,400"
