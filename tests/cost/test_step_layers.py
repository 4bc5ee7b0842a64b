"""What a layer keeps, casts and launches differs by software and format as the sources say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.cost import operations


def named(job, name, phase="forward"):
    """Return the one operation of this name."""
    (found,) = [
        op for op in operations(job) if op.name == name and op.phase == phase and op.stage != "last"
    ]
    return found


def test_a_layer_without_flash_attention_keeps_five_bytes_per_score(make_job):
    """Softmax output 2, dropout mask 1, dropped output 2 (arXiv 2205.05198 §4.1)."""
    job = make_job("gpt-22b", stack="megatron-2021", seq_len=2048.0)
    assert named(job, "softmax and dropout").saved_bytes == 5 * 64 * 2048 * 2048
    without = replace(job, stack=replace(job.stack, dropout=0.0))
    assert named(without, "softmax and dropout").saved_bytes == 2 * 64 * 2048 * 2048


def test_flash_attention_keeps_one_number_per_row_and_head(make_job):
    core = named(make_job(), "flash attention")
    assert core.saved_bytes == 4 * 4096 * 32
    assert core.flops == 2 * 2 * 32 * 128 * 4096 * 4097 / 2


def test_grouped_queries_share_keys_and_tensor_ranks_repeat_the_last_one(make_job):
    assert named(make_job(), "qkv").gemm.n == (32 + 2 * 8) * 128
    assert named(make_job(tp=8), "qkv").gemm.n == (4 + 2 * 1) * 128
    assert named(make_job(tp=16), "qkv").gemm.n == (2 + 2 * 1) * 128


def test_a_query_gate_doubles_the_query_projection(make_job):
    """Qwen3-Next: 16 heads of 256, twice, and two key-value heads."""
    assert named(make_job("qwen3-next-80b-a3b"), "qkv").gemm.n == (2 * 16 + 2 * 2) * 256


def test_latent_queries_go_up_from_their_rank_or_straight_from_the_input(make_job):
    assert named(make_job("deepseek-v3"), "mla query up").gemm.k == 1536
    direct = named(make_job("deepseek-v2-lite"), "mla query up")
    assert direct.gemm.k == 2048
    assert direct.saved_bytes == 0  # the down-projection keeps the same input


@pytest.mark.parametrize(("precision", "bytes_each"), [("bf16", 2), ("fp8", 1)])
def test_eight_bit_layers_keep_their_inputs_in_eight_bits(precision, bytes_each, make_job):
    job = make_job(precision=precision)
    assert named(job, "qkv").saved_bytes == bytes_each * 4096 * 4096


def test_only_narrow_formats_cast(make_job):
    names = {
        precision: {op.name for op in operations(make_job(precision=precision))}
        for precision in ("bf16", "fp8")
    }
    assert not any(name.endswith("cast") for name in names["bf16"])
    assert {"attention input cast", "feed-forward cast"} <= names["fp8"]


def test_the_router_head_and_scores_stay_in_sixteen_bits(make_job):
    job = make_job("mixtral-8x7b", precision="fp8")
    assert named(job, "router").gemm.half
    assert not named(job, "experts up").gemm.half
    (head,) = [op for op in operations(job) if op.name == "head" and op.phase == "forward"]
    assert head.gemm is not None
    assert head.gemm.half


def test_sequence_parallel_norms_keep_their_share(make_job):
    whole = named(make_job(tp=4), "attention norm")
    part = named(make_job(tp=4, sequence_parallel=1), "attention norm")
    assert part.saved_bytes == whole.saved_bytes / 4


def test_experts_are_one_product_each_over_the_tokens_routed_to_them(make_job):
    job = make_job("mixtral-8x7b", ep=4, dp_shard=4)
    up = named(job, "experts up").gemm
    assert (up.groups, up.m, up.experts) == (2, 4096 * 2 / 2, True)


def test_the_fullest_expert_rank_does_its_surplus(make_job):
    job = make_job("mixtral-8x7b", imbalance=1.5)
    assert named(job, "experts up").flops == pytest.approx(
        1.5 * named(make_job("mixtral-8x7b"), "experts up").flops
    )


def test_a_state_space_layer_scans_six_flops_per_state(make_job):
    """Nemotron-H-56B: 256 heads of 64 with 256 states (arXiv 2405.21060 §6)."""
    assert named(make_job("nemotron-h-56b"), "mamba scan").flops == 6 * 16_384 * 256 * 4096
