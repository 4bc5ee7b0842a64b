"""Every rule that a layout can break has its own reason, and only that one is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost import Layout
from crore.cost.layout import indivisible, layers_per_stage, micro_batches, rules

SOUND = {
    "llama3-8b": Layout(pp=4.0, vpp=2.0, dp_shard=2.0, cp=2.0, tp=4.0),
    "mixtral-8x7b": Layout(pp=2.0, dp_shard=8.0, tp=2.0, ep=8.0, etp=1.0),
}


def broken(layout, shape, *, gpus=None, global_batch=64.0, seq_len=4096.0):
    """Return the reasons why a layout is refused."""
    world = layout.gpus if gpus is None else gpus
    return [reason for reason, mask in rules(layout, shape, global_batch, world, seq_len) if mask]


@pytest.mark.parametrize("model", SOUND)
def test_a_sound_layout_breaks_no_rule(model, shapes):
    assert broken(SOUND[model], shapes(model)) == []


GPUS = "pp x dp x cp x tp is not the GPU count"
HEADS = "tp does not divide the attention heads"
WIDTH = "tp does not divide the feed-forward width"
HALVES = "cp does not cut the sequence into even halves"
CHUNKS = "more pipeline chunks than layers"
BATCH = "global batch is no multiple of data-parallel ranks x micro-batch"
TURNS = "interleaving needs micro-batches in multiples of pp"
EXPERTS = "ep does not divide the experts"
NO_EXPERTS = "ep or etp without experts"
RANKS = "ep x etp does not divide the ranks of a stage"
SHARED = "tp does not divide the shared experts' width"
EXPERT_WIDTH = "etp does not divide the experts' width"
PARTS = "tp x cp does not divide the sequence"
BROKEN = [
    ("deepseek-v3", Layout(tp=4.0), {"shape": {"shared_ffn": 2050.0}}, [SHARED]),
    ("mixtral-8x7b", Layout(tp=2.0, etp=2.0), {"shape": {"moe_ffn": 14337.0}}, [EXPERT_WIDTH]),
    ("llama3-8b", Layout(tp=4.0, sequence_parallel=1.0), {"seq_len": 4098.0}, [PARTS]),
    ("llama3-8b", Layout(tp=4.0), {"gpus": 8.0}, [GPUS]),
    ("llama3-8b", Layout(tp=7.0), {}, [HEADS]),  # 7 does divide 14,336
    ("gpt2", Layout(tp=5.0), {}, [HEADS, WIDTH]),
    ("gpt2", Layout(tp=12.0), {"shape": {"ffn": 3073.0}}, [WIDTH]),
    ("llama3-8b", Layout(cp=2.0), {"seq_len": 4098.0}, [HALVES]),
    ("llama3-8b", Layout(pp=16.0, vpp=4.0), {}, [CHUNKS]),
    ("llama3-8b", Layout(dp_shard=3.0), {}, [BATCH]),
    ("llama3-8b", Layout(micro_batch=3.0), {}, [BATCH]),
    ("llama3-8b", Layout(pp=3.0, vpp=2.0), {}, [TURNS]),
    ("mixtral-8x7b", Layout(dp_shard=16.0, ep=16.0), {}, [EXPERTS]),
    ("llama3-8b", Layout(dp_shard=8.0, ep=8.0), {}, [NO_EXPERTS]),
    ("mixtral-8x7b", Layout(dp_shard=4.0, ep=8.0), {}, [RANKS]),
    ("mixtral-8x7b", Layout(tp=2.0, etp=4.0), {}, [RANKS]),
]


@pytest.mark.parametrize(("model", "layout", "change", "reasons"), BROKEN)
def test_a_broken_rule_says_which(model, layout, change, reasons, shapes):
    world = dict(change)
    shape = replace(shapes(model), **world.pop("shape", {}))
    assert broken(layout, shape, **world) == reasons


def test_every_rule_is_broken_by_some_case_above(shapes):
    every = [reason for reason, _ in rules(Layout(), shapes("gpt2"), 1.0, 1.0, 1.0)]
    assert set(every) == {reason for *_, reasons in BROKEN for reason in reasons}


def test_rules_are_masks_over_candidates(shapes):
    layout = Layout(tp=np.array([1.0, 2.0, 3.0, 4.0]))
    found = dict(rules(layout, shapes("llama3-8b"), 64.0, layout.gpus, 4096.0))
    assert found["tp does not divide the attention heads"].tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("layers", "pp", "fullest"),
    [
        (126, 16, 8),  # Llama-3-405B: 15 stages of 8 and one of 6 (arXiv 2407.21783 §3.3.2)
        (126, 8, 16),
        (61, 16, 4),  # DeepSeek-V3
        (61, 2, 31),
        (94, 8, 12),  # Qwen3-235B
        (94, 1, 94),
    ],
)
def test_layers_need_not_divide_over_stages(layers, pp, fullest):
    assert layers_per_stage(Layout(pp=float(pp)), float(layers)) == fullest


def test_embedding_and_head_may_take_a_layers_place():
    """128 slots for 126 layers on 16 stages: 8 each, so one layer fewer on both ends."""
    ends = Layout(pp=16.0, end_slots=1.0)
    assert layers_per_stage(ends, 126.0) == 8
    assert layers_per_stage(ends, 127.0) == 9
    assert layers_per_stage(Layout(end_slots=1.0), 126.0) == 126


@given(layers=st.integers(1, 300), pp=st.integers(1, 128))
def test_the_stages_hold_every_layer_and_the_fullest_no_spare_one(layers, pp):
    fullest = layers_per_stage(Layout(pp=float(pp)), float(layers))
    assert fullest * pp >= layers > (fullest - 1) * pp


@given(
    pp=st.integers(1, 64), replicas=st.integers(1, 64), shards=st.integers(1, 64),
    cp=st.integers(1, 16), tp=st.integers(1, 16), each=st.integers(1, 8),
)  # fmt: skip
def test_the_world_is_the_product_of_its_axes(pp, replicas, shards, cp, tp, each):
    layout = Layout(
        pp=float(pp), dp_replicate=float(replicas), dp_shard=float(shards), cp=float(cp),
        tp=float(tp),
    )  # fmt: skip
    assert layout.gpus == pp * replicas * shards * cp * tp
    assert micro_batches(layout, float(replicas * shards * each)) == each


@given(
    by=st.integers(1, 2**26), times=st.integers(0, 2**26), rest=st.integers(0, 2**26 - 1),
    cut=st.sampled_from((1, 2)),
)  # fmt: skip
def test_what_does_not_divide_leaves_a_remainder(by, times, rest, cut):
    value = by * times + rest % by
    whole, fraction = float(value), value / cut
    assert bool(indivisible(whole, float(by))) == (rest % by != 0)
    assert bool(indivisible(fraction, float(by))) == bool(np.mod(fraction, by) != 0)
