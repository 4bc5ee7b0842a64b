"""What tuning on one's own card takes: time against a plan's, money against the catalogue's."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from crore.catalog.economics import load_economics
from crore.plan import FitRequest, PlanRequest, fit_record, make_fit, make_plan, render_fit

QWEN = FitRequest(model="qwen2.5-0.5b", gpu="rtx-3090", tokens=10**9)
BAICHUAN = FitRequest(model="baichuan-13b", gpu="rtx-3090")


def modes(request):
    return {one.mode: one for one in make_fit(request).tuning}


@pytest.fixture(scope="module")
def qwen():
    return modes(QWEN)


def test_every_mode_that_trains_and_fits_is_told(qwen):
    assert [*qwen] == ["LoRA bf16", "QLoRA nf4", "training bf16"]
    assert [*modes(BAICHUAN)] == ["QLoRA nf4"]


def test_training_takes_what_a_plan_of_the_same_step_takes(qwen):
    """The plan counts failures too, rare on one card."""
    plan = make_plan(
        PlanRequest(
            model="qwen2.5-0.5b", gpu="rtx-3090", gpus=1, tokens=10**9, seq_len=4096,
            stack="torchtitan", global_batch=1, fix={"recompute": "full", "micro_batch": 1},
        )
    ).plan  # fmt: skip
    told = qwen["training bf16"]
    assert told.batch == 1
    assert told.run_s[1] == pytest.approx(plan.run_s, rel=0.03)
    assert plan.economy.usd is not None
    assert told.taken["cost_usd"].likely == pytest.approx(plan.economy.usd[1], rel=0.03)


def test_a_frozen_base_saves_less_than_a_third_and_ranges_wider(qwen):
    whole, frozen = qwen["training bf16"], qwen["LoRA bf16"]
    assert 2 / 3 < frozen.run_s[1] / whole.run_s[1] < 1
    assert frozen.run_s[2] / frozen.run_s[0] > whole.run_s[2] / whole.run_s[0]


def test_a_base_in_4_bits_is_written_out_on_the_way(qwen):
    assert 1 < qwen["QLoRA nf4"].run_s[1] / qwen["LoRA bf16"].run_s[1] < 1.1


def test_twice_the_tokens_take_twice_of_all_but_power():
    one, two = (modes(replace(BAICHUAN, tokens=n))["QLoRA nf4"] for n in (10**7, 2 * 10**7))
    for name in one.taken:
        times = 1 if name == "power_w" else 2
        assert two.taken[name].p50 == pytest.approx(times * one.taken[name].p50, rel=1e-6)


def test_dollars_follow_from_energy_tariff_and_rental():
    told = modes(BAICHUAN)["QLoRA nf4"]
    book, value = load_economics().of("rtx-3090"), {}
    for name, one in told.taken.items():
        value[name] = one.likely
        assert 0 < one.p10 < one.p50 < one.p90
        assert one.source
    rental = book.rental("rtx-3090")
    assert rental is not None
    tariff = book.figure("household_usd_per_kwh").value
    assert value["electricity_usd"] == pytest.approx(value["energy_j"] / 3.6e6 * tariff)
    assert value["energy_j"] == pytest.approx(value["power_w"] * told.run_s[1])
    assert value["rental_usd"] == pytest.approx(told.run_s[1] / 3600 * rental.value)


def test_every_range_has_a_source_and_a_unit_and_every_mover_is_one_of_them():
    (told,) = fit_record(make_fit(BAICHUAN))["tuning"]
    for one in told["assumptions"].values():
        assert one["low"] <= one["value"] <= one["high"]
        assert one["source"]
        assert one["unit"]
    movers = {told[name]["moved_by"]["name"] for name in ("cost_usd", "energy_j", "co2_kg")}
    assert movers <= told["assumptions"].keys()


def test_a_cpu_and_a_part_without_a_price_say_what_they_can():
    assert modes(FitRequest(model="nano-1m", gpu="this-machine")) == {}
    told = modes(FitRequest(model="qwen2.5-0.5b", gpu="mi355x"))["training bf16"]
    assert told.taken["cost_usd"] is told.taken["rental_usd"] is None
    assert told.taken["energy_j"] is not None


def test_lines_carry_ranges_and_are_no_longer_than_120():
    for gpus in (1, 12):
        text = render_fit(make_fit(replace(QWEN, gpus=gpus)))
        assert max(map(len, text.splitlines())) <= 120
    text = render_fit(make_fit(BAICHUAN))
    assert "tuning on 10M tokens takes" in text
    for words in (r"kWh \(.* to .*\)", r"kg CO2|kg \(.* to .*\) CO2", r"rented \$.* \(\$.* to \$"):
        assert re.search(words, text)
