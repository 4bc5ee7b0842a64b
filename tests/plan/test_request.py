"""What follows from a question's own fields."""

from __future__ import annotations

from dataclasses import fields

import pytest

from crore.plan import Limits, PlanRequest
from crore.plan.request import LARGEST_WORLD, WORLD_GPUS
from crore.plan.resolve import resolve


def question(**given):
    return resolve(PlanRequest(model="llama3-8b", gpu="h100-sxm", **{"gpus": 8, **given}))


@pytest.mark.parametrize(
    ("limit", "usable"), [(None, 85.5e9), (40 * 10**9, 40e9), (10**12, 85.5e9)]
)
def test_memory_is_what_the_card_has_or_what_one_allows(limit, usable):
    q = question(limits=Limits(memory_bytes=limit))
    assert q.memory_bytes == pytest.approx(usable, rel=1e-3)


def test_a_stack_without_a_quorum_makes_one_large_world():
    assert question(stack="megatron-2025").world_limit == LARGEST_WORLD
    assert question(stack="crore").world_limit == WORLD_GPUS
    assert question(stack="crore", limits=Limits(world_gpus=4)).world_limit == 4


def test_more_gpus_than_a_world_holds_are_a_fleet():
    assert not question(stack="crore", gpus=WORLD_GPUS).is_fleet
    assert question(stack="crore", gpus=2 * WORLD_GPUS).is_fleet
    assert question(stack="crore", limits=Limits(world_gpus=4)).is_fleet


def test_nothing_is_limited_unless_asked():
    limits = Limits()
    assert [f.name for f in fields(limits) if getattr(limits, f.name) is not None] == [
        "memory_margin"
    ]
