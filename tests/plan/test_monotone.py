"""More of anything never makes the best plan slower; a tighter limit never makes it faster."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crore.errors import Infeasible
from crore.plan.objectives import search_objective
from crore.plan.request import Limits, PlanRequest, Question
from crore.plan.resolve import resolve
from crore.plan.search import search
from tests.plan.brute import NOISE, fleet, mission

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
    new = {}
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
