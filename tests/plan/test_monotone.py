"""More of anything never makes the best plan slower; a tighter limit never makes it faster."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.plan.brute import NOISE, fleet, mission

from crore.errors import Infeasible
from crore.plan.objectives import search_objective
from crore.plan.request import Limits, PlanRequest, Question
from crore.plan.resolve import resolve
from crore.plan.search import search

FACTORS = (1.01, 1.3, 2.0, 10.0)


def best_s(q: Question) -> float:
    """Return seconds of the best plan, infinity where none fits."""
    return min((it.run_s for it in search(q).ranked), default=math.inf)


def best_allowed_s(q: Question) -> float:
    """Return the same over every GPU count the limits allow."""
    try:
        searched = search_objective(q)
    except Infeasible:
        return math.inf
    return min((it.run_s for _, found in searched for it in found.ranked), default=math.inf)


def with_limits(q: Question, **limits: float) -> Question:
    return replace(
        q,
        request=replace(q.request, limits=replace(q.request.limits, **limits)),  # type: ignore[arg-type]
    )


def more_memory(q: Question, factor: float) -> Question:
    part = replace(q.accelerator, memory_bytes=factor * q.accelerator.memory_bytes)
    return replace(with_limits(q, memory_bytes=factor * q.memory_bytes), accelerator=part)


def faster(q: Question, factor: float, *names: str) -> Question:
    """Return the question on a part whose named rates are `factor` times as high."""
    new: dict[str, Any] = {}
    for name in names:
        rate = getattr(q.accelerator, name)
        scaled = {k: factor * v for k, v in rate.items()} if isinstance(rate, dict) else None
        new[name] = scaled if scaled is not None else factor * rate
    return replace(q, accelerator=replace(q.accelerator, **new))


RATES = {
    "memory bandwidth": ("memory_bytes_per_s",),
    "scale-up bandwidth": ("domain_bytes_per_s",),
    "NIC bandwidth": ("nic_bytes_per_s",),
    "host bandwidth": ("host_bytes_per_s",),
    # A published rate is of the part it was measured on: it rises with the peak.
    "FLOP/s": ("peak_flops", "matmul_flops"),
    "everything": ("memory_bytes_per_s", "domain_bytes_per_s", "nic_bytes_per_s",
                   "host_bytes_per_s", "peak_flops", "matmul_flops"),
}  # fmt: skip


def drawn(data, kind) -> Question:
    return resolve(kind(lambda values: data.draw(st.sampled_from(values))))


@pytest.mark.parametrize("kind", [mission, fleet], ids=["one world", "fleet"])
@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_faster_part_is_never_slower(kind, rate, data):
    q = drawn(data, kind)
    before = best_s(q)
    assume(before < math.inf)
    after = best_s(faster(q, data.draw(st.sampled_from(FACTORS)), *RATES[rate]))
    assert after <= before * (1 + NOISE)


@pytest.mark.parametrize("kind", [mission, fleet], ids=["one world", "fleet"])
@settings(max_examples=25)
@given(data=st.data())
def test_more_memory_is_never_slower(kind, data):
    q = drawn(data, kind)
    assert best_s(more_memory(q, data.draw(st.sampled_from(FACTORS)))) <= best_s(q) * (1 + NOISE)


@pytest.mark.parametrize(
    ("model", "gpu", "gpus", "schedule", "factor"),
    [
        ("llama3.2-1b", "a100-sxm-80gb", 32, "zb-h2", 10.0),
        ("qwen2.5-0.5b", "h100-sxm", 32, "zb-h1", 100.0),
        ("gpt2-124m", "a100-sxm-80gb", 36, "zb-h1", 100.0),
    ],
)
def test_faster_products_never_lengthen_a_bubble(model, gpu, gpus, schedule, factor):
    """Weight gradients fill these bubbles: shorter ones must not cost more than they save."""
    q = resolve(
        PlanRequest(model=model, gpu=gpu, gpus=gpus, stack="torchtitan", seq_len=512,
                    global_batch=31, fix={"schedule": schedule})
    )  # fmt: skip
    assert best_s(faster(q, factor, *RATES["FLOP/s"])) <= best_s(q) * (1 + NOISE)


SERVERS = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=64, tokens=10**11, seq_len=4096, global_batch=256,
)  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "values"),
    [
        ("gpus", (64, 48, 32, 16, 8, 4, 1)),
        ("power_w", (2e5, 1e5, 5e4, 2e4, 5e3, 1e3)),
        ("memory_bytes", (80e9, 60e9, 40e9, 30e9, 20e9, 10e9)),
        ("days", (100.0, 10.0, 3.0, 1.0)),
        ("memory_margin", (0.0, 0.04, 0.5, 0.9)),
    ],
)
def test_a_tighter_limit_is_never_faster(limit, values):
    q = resolve(replace(SERVERS, limits=Limits(memory_margin=0.0)))
    times = [best_allowed_s(with_limits(q, **{limit: value})) for value in values]
    assert times[0] < math.inf
    assert times == sorted(times)
    assert times[-1] > times[0] or limit == "days"


def test_a_run_that_takes_too_long_is_no_plan():
    q = resolve(SERVERS)
    days = best_s(q) / 86_400
    assert best_allowed_s(with_limits(q, days=days * 1.001)) == best_s(q)
    assert best_allowed_s(with_limits(q, days=days * 0.999)) == math.inf


@settings(max_examples=25)
@given(data=st.data())
def test_twice_the_tokens_take_exactly_twice_as_long(data):
    kind = data.draw(st.sampled_from((mission, fleet)))
    q = drawn(data, kind)
    assert best_s(replace(q, tokens=2 * q.tokens)) == 2 * best_s(q)
