"""Degrees of a split, and every layer on exactly one stage of any pipeline."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.model.split import (
    Split,
    largest_stage,
    layers_of_stage,
    needs_wrapping,
    split_of,
    stage_of_chunk,
)

schedules = st.sampled_from(["gpipe", "1f1b", "interleaved", "zb-v"])


@given(st.integers(1, 200), st.integers(1, 24), st.integers(1, 5), schedules)
def test_every_layer_is_on_one_stage_and_every_stage_on_one_rank(layers, pp, vpp, schedule):
    split = Split(pp=pp, vpp=vpp, schedule=schedule)
    here = [
        stage_of_chunk(split, rank, chunk) for rank in range(pp) for chunk in range(split.chunks)
    ]
    assert sorted(here) == list(range(split.stages))
    held = [layer for stage in range(split.stages)
            for layer in layers_of_stage(layers, split.stages, stage)]  # fmt: skip
    assert held == list(range(layers))


@given(st.integers(1, 200), st.integers(1, 100))
def test_stages_differ_by_one_layer_at_most_and_the_fuller_come_first(layers, stages):
    sizes = [len(layers_of_stage(layers, stages, stage)) for stage in range(stages)]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == largest_stage(layers, stages)


def test_a_v_goes_there_and_back():
    split = Split(pp=4, schedule="zb-v")
    assert [[stage_of_chunk(split, rank, chunk) for chunk in (0, 1)] for rank in range(4)] == [
        [0, 7], [1, 6], [2, 5], [3, 4],
    ]  # fmt: skip


def test_interleaved_chunks_go_round():
    split = Split(pp=2, vpp=3, schedule="interleaved")
    assert [[stage_of_chunk(split, rank, chunk) for chunk in range(3)] for rank in (0, 1)] == [
        [0, 2, 4], [1, 3, 5],
    ]  # fmt: skip


@pytest.mark.parametrize("schedule", ["interleaved", "zb-v"])
def test_one_rank_has_one_chunk_whatever_the_schedule(schedule):
    assert Split(vpp=4, schedule=schedule).stages == 1


def test_degrees_multiply():
    split = Split(pp=2, dp_replicate=3, dp_shard=4, cp=2, tp=8, ep=16)
    assert split.ranks == 2 * 3 * 4 * 2 * 8
    assert split.dp == 12
    assert split.fsdp == 8
    assert split.expert_fsdp == 8 * 8 // 16
    assert split.words() == "pp 2, dp_replicate 3, dp_shard 4, cp 2, tp 8, ep 16"
    assert Split().words() == "one rank"


def test_a_batch_is_passes_of_micro_batches():
    assert Split(dp_shard=2, dp_replicate=2, micro_batch=2).micro_batches(24) == 3


@pytest.mark.parametrize("batch", [0, 6, 7])
def test_a_batch_that_does_not_divide_is_refused(batch):
    with pytest.raises(InputError, match=f"{batch} is no multiple of 2 .* ranks x micro-batch 2"):
        Split(dp_shard=2, micro_batch=2).micro_batches(batch)


LAYOUT = {
    "pp": 2, "vpp": 3, "dp_replicate": 4, "dp_shard": 5, "cp": 6, "tp": 7, "ep": 8, "etp": 1,
    "micro_batch": 9, "schedule": "interleaved", "sequence_parallel": True, "recompute": "full",
    "recompute_layers": 4.0, "zero": "zero2", "precision": "bf16", "offload": "none",
}  # fmt: skip


def test_a_plans_layout_is_read():
    assert split_of(LAYOUT) == Split(
        pp=2, vpp=3, dp_replicate=4, dp_shard=5, cp=6, tp=7, ep=8, micro_batch=9,
        schedule="interleaved", sequence_parallel=True, recompute="full", recompute_layers=4,
        zero=2, precision="bf16",
    )  # fmt: skip
    assert split_of(LAYOUT | {"zero": "none"}).zero == 0


@pytest.mark.parametrize(
    ("split", "experts", "expected"),
    [
        (Split(), False, (False, False)),
        (Split(), True, (False, False)),
        (Split(tp=2, pp=2), False, (False, False)),
        (Split(dp_shard=2), False, (True, False)),
        (Split(dp_replicate=2), False, (True, False)),
        (Split(cp=2), False, (True, False)),
        (Split(precision="bf16"), False, (True, False)),
        (Split(precision="fp8"), True, (True, True)),
        (Split(dp_shard=2, ep=2), True, (True, False)),
        (Split(dp_shard=4, ep=2), True, (True, True)),
        (Split(tp=2), True, (True, True)),
        (Split(tp=2, ep=2), True, (False, False)),
    ],
)
def test_weights_are_wrapped_where_ranks_share_them_or_formats_differ(split, experts, expected):
    assert needs_wrapping(split, experts=experts) == expected


def test_experts_are_wrapped_on_the_ranks_that_share_them():
    split = Split(dp_shard=4, tp=2, ep=8)
    assert split.expert_fsdp == 1
    assert replace(split, ep=4).expert_fsdp == 2
