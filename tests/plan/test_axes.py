"""What each knob may be set to: the stack's abilities, the part's reach, and pins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.cost.layout import RECOMPUTE
from crore.cost.schedules import SCHEDULE_NAMES
from crore.errors import InputError, UnknownName
from crore.plan.axes import CHUNKS, GRID, OFFLOADS, axes_of, divisors, pins_of
from crore.plan.request import Limits, PlanRequest
from crore.plan.resolve import resolve

LLAMA = PlanRequest(model="llama3-8b", gpu="h100-sxm", gpus=24, seq_len=8192, global_batch=48)
FLEET = replace(LLAMA, stack="crore", gpus=100, limits=Limits(world_gpus=16))


def axes(**changes):
    return axes_of(resolve(replace(LLAMA, **changes)))


@pytest.mark.parametrize(("number", "expected"), [(12, [1, 2, 3, 4, 6, 12]), (7, [1, 7])])
def test_divisors_are_all_and_rising(number, expected):
    assert divisors(number, 100) == expected
    assert divisors(number, 6) == [d for d in expected if d <= 6]


def test_no_divisor_is_left_out():
    for number in range(1, 400):
        assert divisors(number, 300) == [d for d in range(1, 301) if number % d == 0]


def test_one_world_splits_by_divisors_of_its_gpus():
    grid = axes().grid
    assert tuple(grid) == GRID
    assert grid["tp"] == [1, 2, 3, 4, 6, 8]  # a domain of 8
    assert grid["pp"] == [1, 2, 3, 4, 6, 8, 12, 24]
    assert grid["cp"] == [1, 2, 3, 4, 6, 8, 12]  # 512 tokens a rank at least
    assert grid["ep"] == grid["etp"] == [1]
    assert grid["micro_batch"] == [1, 2, 4, 8, 16]


def test_a_fleet_splits_by_the_model_and_not_by_its_count():
    grid = axes_of(resolve(FLEET)).grid
    assert grid["tp"] == [1, 2, 4, 8]
    assert grid["pp"] == [1, 2, 3, 4, 5, 6, 7, 8, 11, 16, 32]  # one length per stage size
    assert grid["cp"] == [1, 2, 4, 8, 16]


def test_experts_spread_by_their_divisors():
    assert axes(model="mixtral-8x7b").grid["ep"] == [1, 2, 4, 8]
    assert axes(model="mixtral-8x7b").grid["etp"] == [1, 0]  # 0 stands for tp
    assert axes(model="mixtral-8x7b", gpus=2).grid["ep"] == [1, 2]


def test_a_stack_without_axes_runs_data_parallel_alone():
    only = axes(stack="fsdp")
    assert [only.grid[name] for name in ("tp", "pp", "cp", "ep")] == [[1]] * 4
    assert only.zero == [2, 3]
    assert [OFFLOADS[k] for k in only.offload] == ["none", "optimizer"]
    assert only.pipelines == [(SCHEDULE_NAMES.index("1f1b"), 1)]


def test_interleaving_has_its_chunks_and_others_one():
    pairs = axes().pipelines
    interleaved = SCHEDULE_NAMES.index("interleaved")
    assert [c for code, c in pairs if code == interleaved] == list(CHUNKS)
    assert [c for code, c in pairs if code != interleaved] == [1]


@pytest.mark.parametrize(
    ("fix", "pairs"),
    [
        ({"vpp": 3}, [("interleaved", 3)]),
        ({"vpp": 1}, [("1f1b", 1)]),
        ({"schedule": "interleaved", "vpp": 1}, [("interleaved", 1)]),
        ({"schedule": "zb-v"}, [("zb-v", 1)]),
    ],
)
def test_a_pinned_schedule_or_chunk_count_leaves_those(fix, pairs):
    found = axes(fix=fix).pipelines
    assert [(SCHEDULE_NAMES[code], chunks) for code, chunks in found] == pairs


def test_offload_combines_what_the_stack_can():
    assert [OFFLOADS[k] for k in axes().offload] == ["none", "optimizer", "activations", "both"]
    assert [OFFLOADS[k] for k in axes(stack="megatron-2021").offload] == ["none"]


def test_selective_recompute_is_left_out_where_it_saves_nothing():
    assert [RECOMPUTE[k] for k in axes().recompute] == ["none", "light", "full"]
    assert "selective" in [RECOMPUTE[k] for k in axes(stack="megatron-2021").recompute]
    assert "selective" in [RECOMPUTE[k] for k in axes(stack="torchtitan").recompute]


@pytest.mark.parametrize(
    ("fix", "modes", "layers"),
    [
        ({"recompute": "full"}, ["full"], -1),
        ({"recompute": "full", "recompute_layers": 4}, ["full"], 4),
        ({"recompute_layers": 4}, ["full"], 4),
        ({"recompute": "light"}, ["light"], -1),
        ({}, ["none", "light", "full"], 0),
    ],
)
def test_pinned_recompute(fix, modes, layers):
    found = axes(fix=fix)
    assert ([RECOMPUTE[k] for k in found.recompute], found.recompute_layers) == (modes, layers)


def test_words_become_numbers_and_what_is_pinned_elsewhere_is_left_out():
    fix: dict[str, int | str] = {
        "recompute": "light", "optimizer": "muon", "tp": 4, "seq_len": 4096, "precision": "fp8"
    }  # fmt: skip
    q = resolve(replace(LLAMA, seq_len=None, fix=fix))
    assert pins_of(q) == {"recompute": 1, "optimizer": 1, "tp": 4}


def test_replicas_of_a_fleet_are_counted_inside_a_world():
    assert pins_of(resolve(replace(FLEET, fix={"dp_replicate": 4}))) == {
        "dp_replicate": 1, "worlds": 4,
    }  # fmt: skip
    both = {"dp_replicate": 4, "worlds": 2}
    assert pins_of(resolve(replace(FLEET, fix=both))) == {"dp_replicate": 2, "worlds": 2}
    with pytest.raises(InputError, match="dp_replicate=3 is no multiple of worlds=2"):
        pins_of(resolve(replace(FLEET, fix={"dp_replicate": 3, "worlds": 2})))


def test_bad_pins_are_refused():
    with pytest.raises(InputError, match="stages are 0, 1, 2 and 3"):
        axes(fix={"zero": 4})
    with pytest.raises(UnknownName, match="gpipe"):
        axes(fix={"schedule": "pipe"})
