"""The factors of a comparison multiply to the ratio, whatever differs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.plan import Limits, PlanRequest, compare, comparison_record, make_plan
from crore.plan.comparison import OUTER, log_mean

LLAMA = PlanRequest(model="llama-3.1-8b", gpu="h100-sxm", gpus=16)
FLEET = replace(LLAMA, gpus=64, stack="crore", limits=Limits(world_gpus=16))
MISSIONS = (
    PlanRequest(model="gpt2-124m", gpu="rtx-3090", gpus=1),
    LLAMA,
    replace(LLAMA, fix={"tp": 2, "pp": 4}),
    replace(LLAMA, gpu="a100-sxm-80gb", gpus=64, tokens=10**12),
    PlanRequest(model="mixtral-8x7b", gpu="h200-sxm", gpus=32, precision="fp8"),
    replace(FLEET, fix={"islands": 4}),
    replace(FLEET, fix={"islands": 4, "interval": 1, "outer_bits": 16}),
    replace(LLAMA, gpu="v100", gpus=64),
)
WHICH = st.integers(0, len(MISSIONS) - 1)


@cache
def answer(which):
    return make_plan(MISSIONS[which])


def against(a, b):
    """Hold one request's plan against another's."""
    return compare([make_plan(a), make_plan(b)]).differences[0]


def factors(ratio):
    return {f.name: f.factor for f in ratio.factors}


@given(WHICH, WHICH)
def test_factors_multiply_to_the_ratio_of_days_and_of_dollars(a, b):
    plans = answer(a).plan, answer(b).plan
    it = compare([answer(a), answer(b)]).differences[0]
    assert it.days.ratio == pytest.approx(plans[1].days.value / plans[0].days.value, rel=1e-12)
    assert abs(it.days.residual) < 1e-9
    assert math.prod(factors(it.days).values()) == pytest.approx(it.days.ratio, rel=1e-9)
    if it.usd is not None:
        assert it.usd.ratio == plans[1].economy.usd[1] / plans[0].economy.usd[1]
        assert abs(it.usd.residual) < 1e-9


@given(WHICH, WHICH)
def test_swapping_inverts_every_factor(a, b):
    forth = compare([answer(a), answer(b)]).differences[0]
    back = compare([answer(b), answer(a)]).differences[0]
    assert [f.name for f in forth.days.factors] == [f.name for f in back.days.factors]
    for one, other in zip(forth.days.factors, back.days.factors, strict=True):
        assert one.factor * other.factor == pytest.approx(1, rel=1e-12)
        assert (one.before, one.after) == (other.after, other.before)


@given(WHICH)
def test_a_plan_against_itself_differs_in_nothing(which):
    it = compare([answer(which), answer(which)]).differences[0]
    assert it.days.ratio == 1
    assert set(factors(it.days).values()) == {1.0}


def test_twice_the_tokens_are_the_one_cause_of_twice_the_days():
    """Batch given: else it follows the tokens."""
    short = replace(LLAMA, global_batch=128, tokens=10**11)
    it = against(short, replace(short, tokens=2 * 10**11))
    assert it.days.ratio == pytest.approx(2)
    assert {name: f for name, f in factors(it.days).items() if f != 1} == {"tokens": 2}


def test_flops_per_token_are_six_a_parameter_and_causal_attention():
    """6·(N - embedding) + 6·L·S·h (PaLM, arXiv 2204.02311 appendix B, causal half)."""
    it = against(LLAMA, replace(LLAMA, model="llama-2-7b", seq_len=4096))
    flops = next(f for f in it.days.factors if f.name == "FLOPs per token")
    of_8b = 6 * (8.03e9 - 128_256 * 4096) + 6 * 32 * 8192 * 4096
    of_7b = 6 * (6.738e9 - 32_000 * 4096) + 6 * 32 * 4096 * 4096
    assert flops.before == pytest.approx(of_8b, rel=2e-3)
    assert flops.after == pytest.approx(of_7b, rel=2e-3)


def test_a_slower_part_is_told_from_what_is_made_of_it():
    """Dense bf16 peaks: 989 TFLOP/s (H100 data sheet), 312 (A100 data sheet)."""
    found = {f.name: f for f in against(LLAMA, replace(LLAMA, gpu="a100-sxm-80gb")).days.factors}
    peak = found["peak FLOP/s"]
    assert (peak.before, peak.after) == pytest.approx((989e12, 312e12), rel=2e-3)
    assert 2 < peak.factor < 989 / 312  # the products are not all of the step
    assert found["memory bandwidth"].factor > 1
    assert factors(against(LLAMA, LLAMA).days).keys() == found.keys()


def test_uneven_stages_are_a_cause():
    """32 layers on 5 stages: seven on the fullest, 35 / 32 of the mean."""
    base = replace(LLAMA, gpus=40, fix={"pp": 5, "vpp": 1, "tp": 8}, global_batch=40)
    found = {f.name: f for f in against(replace(base, fix={"pp": 1, "tp": 8}), base).days.factors}
    fullest = found["layers of the fullest stage"]
    assert (fullest.before, fullest.after) == (1, 35 / 32)
    assert 1.05 < fullest.factor < 35 / 32


def test_islands_that_wait_and_learn_less_are_causes():
    it = compare([answer(1), answer(6)]).differences[0]
    found = {f.name: f for f in it.days.factors}
    plan = answer(6).plan
    waits = plan.rounds.exposed_s / plan.rounds.interval
    assert found[OUTER].before == 0
    assert found[OUTER].after == pytest.approx(waits / (waits + plan.step_time_s.value))
    assert found[OUTER].factor > 1.5
    assert found["islands' learning"].factor == pytest.approx(1 / plan.learning[1])


def test_shares_of_the_step_add_up_to_one():
    it = compare([answer(2), answer(6)]).differences[0].days
    parts = [f for f in it.factors if f.unit == "of the step"]
    assert sum(f.before for f in parts) == pytest.approx(1)
    assert sum(f.after for f in parts) == pytest.approx(1)


def test_dollars_have_the_price_in_place_of_the_gpus():
    it = compare([answer(1), answer(3)]).differences[0]
    assert it.usd is not None
    days, usd = factors(it.days), factors(it.usd)
    assert days.keys() - usd.keys() == {"GPUs"}
    assert usd.keys() - days.keys() == {"price of a GPU-hour"}
    assert it.usd.ratio == pytest.approx(it.days.ratio / days["GPUs"] * usd["price of a GPU-hour"])


def test_without_a_price_there_are_no_dollars():
    assert answer(7).plan.economy.usd is None
    it = compare([answer(1), answer(7), answer(3)])
    assert [d.usd is None for d in it.differences] == [True, False]


def test_names_default_to_title_or_model():
    made = compare([answer(0), make_plan(replace(LLAMA, title="Mine"))])
    assert made.names == ("gpt2-124m", "Mine")
    assert made.plans == tuple(a.plan for a in made.answers)


@pytest.mark.parametrize(
    ("count", "names", "expected"),
    [
        (1, (), "takes 2 to 6 plans, not 1"),
        (7, (), "takes 2 to 6 plans, not 7"),
        (3, ("a", "b"), "3 plans cannot go by 2 names"),
    ],
)
def test_bad_calls_are_input_errors(count, names, expected):
    with pytest.raises(InputError, match=expected):
        compare([answer(0)] * count, names)


def test_the_record_holds_everything():
    record = comparison_record(compare([answer(1), answer(3)], ["one", "two"], ["read twice"]))
    assert [t["name"] for t in record["targets"]] == ["one", "two"]
    assert record["targets"][1]["plan"]["gpus"] == 64
    only = record["differences"][0]
    assert (only["target"], only["against"]) == ("B", "A")
    product = math.prod(f["factor"] for f in only["days"]["factors"])
    assert product == pytest.approx(only["days"]["ratio"], rel=1e-9)
    assert record["notes"] == ["read twice"]
    assert "Ang" in record["method"]


def test_the_logarithmic_mean():
    """L(10, 20) = 10 / ln 2; 0 where one is 0 (Ang 2005)."""
    assert log_mean(10, 20) == pytest.approx(10 / math.log(2))
    assert (log_mean(3, 3), log_mean(0, 5), log_mean(5, 0), log_mean(0, 0)) == (3, 0, 0, 0)


POSITIVE = st.floats(1e-12, 1e12)


@given(POSITIVE, POSITIVE)
def test_the_logarithmic_mean_is_between_and_symmetric(a, b):
    mean = log_mean(a, b)
    assert min(a, b) * (1 - 1e-9) <= mean <= max(a, b) * (1 + 1e-9)
    assert mean == log_mean(b, a)
