"""The space: cells and settings obey the rules, and nothing is counted or listed twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plan.brute import columns, crore_mission, every_cell, fleet, mission, settings_of

from crore.cost.layout import layers_per_stage
from crore.plan.axes import axes_of
from crore.plan.candidates import joined, size, take
from crore.plan.request import Limits, PlanRequest
from crore.plan.resolve import resolve
from crore.plan.space import (
    FULL_MODE,
    NO_MEMORY,
    NO_WORLD,
    cells_of,
    chain_lengths,
    chain_of_space,
    obeying,
    settings_per_cell,
    with_chain,
)
from crore.plan.space import settings as settings_inside

LLAMA = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=24, seq_len=8192, global_batch=48)
FLEET = replace(LLAMA, stack="crore", gpus=100, limits=Limits(world_gpus=16))


@settings(max_examples=60)
@given(data=st.data())
def test_settings_are_counted_as_they_are_listed(data):
    kind = data.draw(st.sampled_from((mission, crore_mission, fleet)))
    q = resolve(kind(lambda values: data.draw(st.sampled_from(values))))
    axes, cells = axes_of(q), every_cell(q)
    some = take(cells.candidates, slice(0, None, 1 + size(cells.candidates) // 50))
    if not size(some):
        assert cells.binding
        return
    inside = settings_inside(q, axes, some)
    rows = np.sum(chain_of_space(q, axes, inside))
    assert rows * len(axes.pipelines) == np.sum(settings_per_cell(q, axes, some))
    alive, broken = obeying(q, axes, inside)
    listed = [size(part) for part in settings_of(q, axes, some)]
    assert sum(listed) + sum(broken.values()) == np.sum(settings_per_cell(q, axes, some))
    assert sum(listed) == np.sum(chain_lengths(q, axes, alive))


@pytest.mark.parametrize("request_", [LLAMA, FLEET, replace(FLEET, model="olmoe-1b-7b")])
def test_no_setting_is_listed_twice(request_):
    q = resolve(request_)
    cells = every_cell(q).candidates
    some = take(cells, slice(0, None, 11))
    parts = list(settings_of(q, axes_of(q), some))
    whole = joined(parts, [size(part) for part in parts])
    rows = np.concatenate([*columns(whole), [whole.layout.dp_shard, whole.batch]])
    assert np.unique(rows, axis=1).shape == rows.shape
    assert rows.shape[1] > 1000


def test_one_world_uses_every_gpu_and_the_whole_batch():
    q = resolve(LLAMA)
    for part in settings_of(q, axes_of(q), every_cell(q).candidates):
        assert np.all(part.layout.gpus == 24)
        assert np.all(part.batch == 48)
        assert np.all(part.batch % (part.layout.dp * part.layout.micro_batch) == 0)


def test_a_fleet_stays_within_its_worlds_gpus_and_batch():
    q = resolve(FLEET)
    for part in settings_of(q, axes_of(q), every_cell(q).candidates):
        it = part.layout
        assert np.all(it.gpus <= 16 * part.worlds)
        assert np.all(it.gpus * part.islands <= 100)
        assert np.all(part.batch * part.islands <= 48)
        rounds = part.batch / (it.dp * it.micro_batch)
        assert np.all((rounds >= 1) & (rounds % 1 == 0))
        assert np.all((it.vpp == 1) | (rounds % it.pp == 0))


def nothing_less(grid):
    return np.ones(size(grid), dtype=bool)


def every_third(grid):
    return np.arange(size(grid)) % 3 == 0


def test_cells_and_their_rejects_make_up_the_total():
    for request in (LLAMA, FLEET):
        q = resolve(request)
        axes = axes_of(q)
        for share in (0, 1):
            cells = cells_of(q, axes, every_third if share else nothing_less)
            inside = np.sum(settings_per_cell(q, axes, cells.candidates))
            assert cells.total == inside + sum(cells.rejected.values())
            assert cells.binding == ""
            assert (NO_MEMORY in cells.rejected) == q.is_fleet


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        (replace(LLAMA, fix={"tp": 3}), "tp does not divide the attention heads"),
        (replace(LLAMA, gpus=7), ""),
        (replace(LLAMA, global_batch=1, fix={"micro_batch": 2}), "global batch is no multiple"),
        (replace(LLAMA, fix={"islands": 2}), "several worlds are pinned"),
        (replace(FLEET, fix={"pp": 32}), "more than a world holds"),
        (replace(FLEET, fix={"worlds": 50}), NO_WORLD),
    ],
)
def test_the_rule_that_leaves_nothing_is_named(request_, rule):
    cells = every_cell(resolve(request_))
    assert rule in cells.binding
    assert bool(rule) == (size(cells.candidates) == 0)


def test_memory_that_leaves_nothing_is_no_rule():
    q = resolve(FLEET)
    cells = cells_of(q, axes_of(q), lambda grid: np.zeros(size(grid), dtype=bool))
    assert (size(cells.candidates), cells.binding) == (0, "")
    assert cells.rejected[NO_MEMORY] > 0


def test_full_sharding_tries_every_group_and_lower_stages_one():
    q = resolve(replace(LLAMA, fix={"tp": 1, "pp": 1, "cp": 1, "micro_batch": 1}))
    inside, _ = obeying(q, axes_of(q), settings_inside(q, axes_of(q), every_cell(q).candidates))
    shard, zero = np.asarray(inside.layout.dp_shard), np.asarray(inside.layout.zero)
    assert sorted(set(shard[zero == 3])) == [2, 3, 4, 6, 8, 12, 24]
    assert set(shard[zero == 1]) == {24}
    assert np.all(shard * inside.layout.dp_replicate == 24)


def test_pins_of_shards_and_replicas_hold_or_fall():
    for fix in ({"dp_shard": 4}, {"dp_replicate": 3}, {"dp_shard": 4, "dp_replicate": 3}):
        q = resolve(replace(LLAMA, fix=fix))
        for part in settings_of(q, axes_of(q), every_cell(q).candidates):
            for name, value in fix.items():
                assert np.all(getattr(part.layout, name) == value)


def test_recompute_and_offload_are_written_into_the_layout():
    one = take(every_cell(resolve(LLAMA)).candidates, slice(0, 2))
    layout = with_chain(one, FULL_MODE, 5.0, 3).layout
    assert (layout.recompute, layout.recompute_layers) == (FULL_MODE, 5)
    assert (layout.offload_optimizer, layout.offload_activations) == (1, 1)
    none = with_chain(one, 0, -1.0, 0).layout
    assert (none.offload_optimizer, none.offload_activations) == (0, 0)


def test_a_chain_has_every_mode_count_and_offload():
    q = resolve(replace(LLAMA, fix={"pp": 4}))
    cells = every_cell(q).candidates
    stage = layers_per_stage(cells.layout, q.shape.layers)
    assert set(np.asarray(stage)) == {8}
    assert set(chain_lengths(q, axes_of(q), cells)) == {(2 + 8) * 4}
