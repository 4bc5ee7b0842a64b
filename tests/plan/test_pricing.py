"""Bounds that no setting undercuts, and prices that do not depend on how they are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plan.brute import NOISE, every_cell, fleet, mission, settings_of

from crore.cost.layout import layers_per_stage
from crore.plan.axes import axes_of
from crore.plan.candidates import joined, size, take
from crore.plan.fleet import run_bound_s, run_s
from crore.plan.pricing import (
    LeastBytes,
    always_there,
    floors,
    job_for,
    least_bytes,
    machine_for,
    peak_bytes,
    price,
    run_bounds_s,
    seconds_and_bytes,
)
from crore.plan.request import PlanRequest
from crore.plan.resolve import resolve
from crore.plan.space import FULL_MODE, _one_world, obeying, with_chain
from crore.plan.space import settings as settings_inside

LLAMA = PlanRequest(
    model="llama3-8b", gpu="h100-sxm", gpus=16, tokens=10**12, global_batch=128, seq_len=8192
)
SAMPLED = 12
"""Cells of a mission whose settings are all priced."""


def drawn(data, kind):
    return resolve(kind(lambda values: data.draw(st.sampled_from(values))))


def check_bounds(q, data):
    """Assert that no setting of a few cells undercuts the bounds of its cell."""
    axes, cells = axes_of(q), every_cell(q)
    count = size(cells.candidates)
    if not count:
        return
    index = np.unique(np.linspace(0, count - 1, SAMPLED).astype(int) + data.draw(st.integers(0, 9)))
    index = index[index < count]
    if not index.size:
        return
    some = take(cells.candidates, index)
    seconds = run_bounds_s(q, axes, cells)[index]
    known = LeastBytes(q, axes, cells).of(index)
    least = least_bytes(q, axes, some)
    assert np.all(known <= least * (1 + NOISE))
    enough = least_bytes(q, axes, some, float(np.median(least)))
    held = always_there(q, axes, some)
    if q.is_fleet:
        worlds = least_bytes(q, axes, _one_world(q, cells.grid))[cells.point[index]]
        assert np.all(worlds <= known * (1 + NOISE))
    for at in range(index.size):
        parts = list(settings_of(q, axes, take(some, slice(at, at + 1))))
        if parts:
            inside = joined(parts, [size(part) for part in parts])
            step_s, peak = seconds_and_bytes(q, inside)
            run = run_s(q, inside, step_s)
            assert seconds[at] <= run.min() * (1 + NOISE)
            assert max(known[at], enough[at]) <= peak.min() * (1 + NOISE)
            assert 0 < held[at] <= peak.min()
            assert np.all(floors(q, inside) <= peak)
            assert np.all(run_bound_s(q, inside, step_s) <= run * (1 + NOISE))


@settings(max_examples=100)
@given(data=st.data())
def test_no_setting_of_one_world_undercuts_the_bounds_of_its_cell(data):
    check_bounds(drawn(data, mission), data)


@settings(max_examples=60)
@given(data=st.data())
def test_no_setting_of_a_fleet_undercuts_the_bounds_of_its_cell(data):
    check_bounds(drawn(data, fleet), data)


def some_settings(q):
    axes, cells = axes_of(q), every_cell(q).candidates
    parts = list(settings_of(q, axes, take(cells, slice(0, None, 41))))
    return joined(parts, [size(part) for part in parts])


def test_blocks_do_not_change_the_prices(monkeypatch):
    q = resolve(LLAMA)
    every = some_settings(q)
    whole = seconds_and_bytes(q, every)
    assert size(every) > 500
    monkeypatch.setattr("crore.plan.pricing.BLOCK", 37)
    for one, other in zip(whole, seconds_and_bytes(q, every), strict=True):
        assert other == pytest.approx(one, rel=NOISE)


def test_a_candidate_priced_alone_costs_what_it_costs_among_others():
    q = resolve(LLAMA)
    every = some_settings(q)
    step_s, peak = seconds_and_bytes(q, every)
    for index in range(0, size(every), 97):
        _, time, held = price(q, take(every, index))
        assert float(time.step_s) == pytest.approx(step_s[index], rel=NOISE)
        assert float(held.peak_bytes) == pytest.approx(peak[index], rel=NOISE)


def test_memory_alone_is_the_memory_of_the_full_price():
    q = resolve(LLAMA)
    every = some_settings(q)
    assert peak_bytes(q, every) == pytest.approx(seconds_and_bytes(q, every)[1], rel=NOISE)


def test_a_cluster_brings_its_network():
    q = resolve(PlanRequest(model="llama3-8b", cluster="deepseek-2k"))
    assert machine_for(q).nic_bytes_per_s == 400e9 / 8
    assert machine_for(q).hop_latency_s > machine_for(resolve(LLAMA)).hop_latency_s == 0


def test_muon_keeps_one_moment_of_four_bytes_less():
    adam = resolve(LLAMA)
    muon = resolve(
        PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=16, fix={"optimizer": "muon"})
    )
    one = take(every_cell(adam).candidates, 0)
    own = (float(job_for(q, one).state_bytes) for q in (adam, muon))
    assert next(own) - next(own) == 4


@settings(max_examples=60)
@given(data=st.data())
def test_every_recomputed_layer_costs_time_and_saves_memory(data):
    """What lets the search open a chain only where its first setting does not fit."""
    q = drawn(data, mission)
    axes, cells = axes_of(q), every_cell(q).candidates
    if not size(cells):
        return
    step = max(size(cells) // SAMPLED, 1)
    inside, _ = obeying(q, axes, settings_inside(q, axes, take(cells, slice(None, None, step))))
    stage = layers_per_stage(inside.layout, q.shape.layers)
    longest = int(np.max(stage, initial=0))
    plain_s, plain = seconds_and_bytes(q, inside)
    last_s, last = plain_s, np.full(plain.size, np.inf)
    for count in range(1, min(longest, 6) + 1):
        now_s, now = seconds_and_bytes(q, with_chain(inside, FULL_MODE, float(count), 0))
        more = count <= stage
        assert np.all((now_s >= last_s * (1 - NOISE)) | ~more)
        assert np.all((now <= last * (1 + NOISE)) | ~more)
        last_s, last = now_s, now
    for mode in axes.recompute:
        for offload in axes.offload:
            chained = with_chain(inside, mode, -1.0, offload)
            assert np.all(seconds_and_bytes(q, chained)[0] >= plain_s * (1 - NOISE))
