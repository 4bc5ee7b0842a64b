"""What whole steps take beyond their parts: two numbers, found again where they were put in."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.machines import calibration

from crore.catalog import load_catalog
from crore.train.calibrate import remainder
from crore.train.calibrate.remainder import (
    Step,
    planned,
    references,
    solved,
    with_remainder,
    zero_stages,
)
from crore.train.calibrate.steps import measure_steps

FOUND = calibration()


def taken(setting, factor, shard_s):
    """Return the steps of a machine that takes so much longer than its tables."""
    made = {}
    for name, zero in zero_stages(setting.processes).items():
        parts = [planned(FOUND, setting, spec, zero) for spec in references()]
        made[name] = tuple(factor * (bare + messages * shard_s) for bare, messages in parts)
    return made


@given(factor=st.floats(1.0, 1.5), shard_s=st.floats(1e-3, 1e-2))
def test_what_was_put_in_is_found(factor, shard_s):
    one, two = FOUND.settings
    alone = with_remainder(FOUND, one, taken(one, factor, 0.0))
    assert alone.step_factor == pytest.approx(factor)
    assert alone.shard_s == 0.0
    both = with_remainder(FOUND, two, taken(two, factor, shard_s))
    assert both.step_factor == pytest.approx(factor)
    assert both.shard_s == pytest.approx(shard_s)


def test_a_message_is_no_shorter_than_it_was_alone():
    steps = [Step(1.0, 10.0, 1.3), Step(2.0, 10.0, 2.6)]
    factor, shard_s = solved(steps, 0.01)
    assert shard_s == 0.01
    assert 1.2 < factor < 1.3


@given(
    st.lists(
        st.builds(Step, st.floats(0.1, 4), st.floats(1, 50), st.floats(0.05, 8)),
        min_size=2, max_size=4,
    ),
    st.floats(1e-4, 1e-2),
)  # fmt: skip
def test_nothing_in_a_step_is_faster_than_alone_and_no_such_pair_is_nearer(steps, least_s):
    def miss(factor, shard_s):
        return sum((factor * (it.parts_s + it.messages * shard_s) / it.taken_s - 1) ** 2
                   for it in steps)  # fmt: skip

    factor, shard_s = solved(steps, least_s)
    assert factor >= 1
    assert shard_s >= least_s
    for other in (1.0, 1.05, 1.2, 2.0, factor * 1.01):
        for more in (1.0, 1.1, 2.0, 10.0):
            assert miss(factor, shard_s) <= miss(other, least_s * more) * (1 + 1e-9) + 1e-12


def test_references_are_no_model_of_the_catalogue():
    nano = [load_catalog().model(name) for name in ("nano-1m", "nano-5m", "nano-20m")]
    for spec in references():
        assert all(replace(spec, name=it.name) != it for it in nano)
        assert all((spec.layers, spec.hidden) != (it.layers, it.hidden) for it in nano)


def test_each_reference_takes_a_whole_step(monkeypatch):
    torch.set_num_threads(1)
    small = {"layers": 1, "hidden": 16, "heads": 2, "kv_heads": 2, "head_dim": 8, "ffn": 16}
    monkeypatch.setattr(remainder, "REFERENCES", (small, {**small, "vocab": 32}))
    steps = measure_steps(1, "zero1", "cpu")
    assert len(steps) == 2
    assert min(steps) > 0
