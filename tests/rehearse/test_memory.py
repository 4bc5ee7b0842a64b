"""Planner against count: what a rank holds at the peak of a step, kind by kind."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.rehearse.plans import PLANS, ends, traced
from tests.rehearse.test_messages import MORE, small

from crore.rehearse.fake import rehearse
from crore.rehearse.predicted_memory import MADE, predicted_memory

KINDS = ("weights", "optimizer", "gradients", "gathered", "made")
WITHIN, PEAK = 0.03, 0.05
"""Largest misses of a kind and of the peak; most are met to a part in a thousand."""
NOTHING = 1e-6
"""Of the peak, what is no bytes at all."""
LONG = ("llama", "mixtral", "deepseek", "baichuan")
"""Plans of published models, each several seconds."""
RANKS = [
    pytest.param(
        case, rank, id=f"{case.name}, rank {rank}",
        marks=[
            *[pytest.mark.drill] * (case.name in LONG),
        ],
    )
    for case in PLANS
    for rank in ends(case.work().split)
]  # fmt: skip


@pytest.mark.parametrize(("case", "rank"), RANKS)
def test_every_kind_of_byte_at_the_peak_is_as_counted(case, rank):
    work = case.work()
    trace, predicted = traced(case.name, rank), predicted_memory(work, rank)
    counted = Counter(trace.peak_kinds)
    for kind in KINDS:
        least = NOTHING * trace.peak_bytes
        assert predicted[kind] == pytest.approx(counted[kind], rel=WITHIN, abs=least), kind
    total = sum(predicted[kind] for kind in KINDS) + counted["tokens"]
    assert total == pytest.approx(trace.peak_bytes, rel=PEAK)


@pytest.mark.parametrize("case", PLANS, ids=lambda case: case.name)
def test_what_is_made_is_the_sum_of_its_parts(case):
    predicted = predicted_memory(case.work(), 0)
    assert predicted["made"] == sum(predicted[name] for name in MADE)
    assert all(predicted[name] >= 0 for name in (*KINDS, *MADE))


UNMET = {("a V, untied", 2)}
"""6.8 % too little: with two layers a stage, what waits for the second halves is more."""
SHAPES = [
    pytest.param(
        name, rank, id=f"{name}, rank {rank}",
        marks=[pytest.mark.drill, *[pytest.mark.xfail(strict=True)] * ((name, rank) in UNMET)],
    )
    for name, given in MORE.items()
    for rank in ends(small(*given).split)
]  # fmt: skip


@pytest.mark.parametrize(("name", "rank"), SHAPES)
def test_the_peak_of_other_shapes_and_splits_is_as_counted(name, rank):
    work = small(*MORE[name])
    trace, predicted = rehearse(work, rank), predicted_memory(work, rank)
    total = sum(predicted[kind] for kind in KINDS) + trace.peak_kinds["tokens"]
    assert total == pytest.approx(trace.peak_bytes, rel=PEAK)
