"""The list of a step holds the model's FLOPs, once, however they are split."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost import Operation, forward_flops_per_token, forward_operations, memory, operations
from crore.cost.step_time import step_flops

# Of the model's FLOPs, what the list may lack: biases and short convolutions are element-wise work.
ELEMENTWISE = 6e-4
KINDS = {
    "dense": "llama3.1-405b",
    "multi-query": "falcon-7b",
    "windowed": "gemma3-12b",
    "experts": "mixtral-8x7b",
    "shared experts": "qwen2-57b-a14b",
    "latent attention": "deepseek-v3",
    "latent attention, direct queries": "deepseek-v2-lite",
    "mamba": "nemotron-h-56b",
    "mamba and experts": "nemotron-3-nano",
    "deltanet, gated queries": "qwen3-next-80b-a3b",
    "every other layer of experts": "llama4-maverick-400b",
}
kinds = pytest.mark.parametrize("model", KINDS.values(), ids=KINDS.keys())


def forward_flops(job, phase="forward"):
    """Return FLOPs of one micro-batch on the fullest rank and both ends."""
    return float(sum(op.flops * op.count for op in operations(job) if op.phase == phase))


@kinds
def test_one_rank_runs_the_models_flops(model, make_job):
    job = make_job(model, micro_batch=2)
    expected = forward_flops_per_token(job.shape, 4096.0) * job.tokens
    assert forward_flops(job) == pytest.approx(expected, rel=ELEMENTWISE)


@pytest.mark.parametrize("model", ["deepseek-v3", "qwen3-next-80b-a3b", "glm-4.5-355b-a32b"])
def test_prediction_modules_are_in_the_list(model, make_job):
    job = make_job(model, mtp=1.0)
    expected = forward_flops_per_token(job.shape, 4096.0, 1.0) * job.tokens
    assert forward_flops(job) == pytest.approx(expected, rel=ELEMENTWISE)


@kinds
def test_sequence_parallel_ranks_share_the_flops_exactly(model, make_job):
    whole = forward_flops(make_job(model))
    part = forward_flops(make_job(model, tp=2, etp=1, sequence_parallel=1))
    kv_heads = make_job(model).shape.kv_heads
    # One key-value head is not divided: both ranks project it.
    tolerance = 1e-12 if kv_heads > 1 else 0.02
    assert 2 * part == pytest.approx(whole, rel=tolerance)


@kinds
def test_tensor_parallel_ranks_repeat_only_routers_and_latents(model, make_job):
    whole = forward_flops(make_job(model))
    part = forward_flops(make_job(model, tp=2, etp=2))
    assert whole <= 2 * part * (1 + 1e-12) <= whole * 1.03


@kinds
@pytest.mark.parametrize("axes", [{"cp": 4}, {"ep": 2, "dp_shard": 2}, {"dp_shard": 16}])
def test_context_expert_and_data_ranks_share_the_flops(model, axes, make_job):
    whole = forward_flops(make_job(model))
    ranks = axes.get("cp", 1)
    assert ranks * forward_flops(make_job(model, **axes)) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize(("pp", "layers"), [(2, 63), (16, 8), (126, 1)])
def test_the_fullest_stage_runs_its_layers(pp, layers, make_job):
    whole, job = make_job("llama3.1-405b"), make_job("llama3.1-405b", pp=pp)
    head = 2 * whole.shape.vocab * whole.shape.hidden * whole.tokens
    each = (forward_flops(whole) - head) / 126
    assert forward_flops(job) - head == pytest.approx(layers * each, rel=1e-12)


def test_expert_layers_fill_the_stages_behind_the_leading_dense_ones(make_job):
    """DeepSeek-V3: 3 dense and 58 expert layers; on 16 stages the fullest has 4 expert layers."""
    job = make_job("deepseek-v3", pp=16)
    assert (job.stage_layers, float(job.stage_moe), float(job.stage_dense)) == (4, 4, 0)
    whole = make_job("deepseek-v3")
    assert (whole.stage_layers, float(whole.stage_moe), float(whole.stage_dense)) == (61, 58, 3)


def test_full_recompute_runs_the_layers_again_and_the_head_never(make_job):
    job = make_job(recompute=3)
    head = 2 * job.shape.vocab * job.shape.hidden * job.tokens
    again = forward_flops(job, "recompute")
    assert again == pytest.approx(forward_flops(job) - head, rel=1e-12)


def test_selective_recompute_runs_the_attention_core_again(make_job):
    job = make_job(stack="megatron-2025", recompute=2)
    core = sum(float(op.flops * op.count) for op in operations(job) if op.kind == "attention"
               and op.phase == "forward")  # fmt: skip
    assert forward_flops(job, "recompute") == pytest.approx(core, rel=1e-12)


@kinds
def test_backward_runs_twice_the_forward_and_half_a_core_more(model, make_job):
    job = make_job(model)
    _, hardware = step_flops(job)
    model_flops = 3 * forward_flops_per_token(job.shape, 4096.0) * job.global_batch * 4096
    run = forward_flops(job) + forward_flops(job, "backward")
    scans = sum(
        float(op.flops * op.count)
        for op in operations(job)
        if op.kind == "scan" and op.phase == "forward"
    )
    per_step = (run - 0.5 * scans) * job.micro_batches
    assert per_step == pytest.approx(float(hardware), rel=2 * ELEMENTWISE)
    assert hardware >= model_flops


def test_offloaded_activations_travel_to_the_host_and_back(make_job):
    job = make_job(offload_activations=0.5)
    (copy,) = [op for op in operations(job) if op.kind == "transfer"]
    saved = sum(
        op.saved_bytes * op.count
        for op in operations(job)
        if op.phase == "forward" and op.stage == "layer"
    )
    assert copy.repeat == "micro_batch"
    assert copy.message_bytes == pytest.approx(saved)  # half of it, twice


def test_packed_documents_do_not_see_each_other(make_job):
    whole = make_job(seq_len=8192.0)
    packed = replace(whole, document_len=1024.0)
    short = make_job(seq_len=1024.0, micro_batch=8)
    assert forward_flops(packed) < forward_flops(whole)
    assert forward_flops(packed) == pytest.approx(forward_flops(short), rel=1e-12)


@kinds
@pytest.mark.parametrize("recompute", [0, 3])
def test_the_forward_pass_alone_decides_the_memory(model, recompute, make_job):
    """A search asks for memory alone far more often than for time."""
    job = make_job(model, dp_shard=8, zero=3, recompute=recompute, mtp=1.0)
    ops = forward_operations(job)
    assert len(ops) < len(operations(job))
    assert np.array_equal(memory(job, ops).peak_bytes, memory(job, operations(job)).peak_bytes)


@kinds
def test_the_forward_pass_is_the_one_of_the_step(model, make_job):
    job = make_job(model, tp=2, dp_shard=8, zero=1)
    whole = [op for op in operations(job) if op.phase == "forward"]
    assert [op for op in forward_operations(job) if op.phase == "forward"] == [
        op for op in whole if op.kind != "transfer"
    ]


@given(
    tp=st.sampled_from([1, 2, 4, 8]), cp=st.sampled_from([1, 2, 4]), pp=st.integers(1, 61),
    ep=st.sampled_from([1, 8, 64]), recompute=st.integers(0, 3), zero=st.integers(0, 3),
    model=st.sampled_from(list(KINDS.values())), stack=st.sampled_from(["nemo", "crore", "xla"]),
)  # fmt: skip
def test_no_field_is_negative_or_unknown(make_job, model, stack, ep, **layout):
    job = make_job(model, stack=stack, dp_shard=8, ep=ep if make_job(model).shape.experts else 1,
                   **layout)  # fmt: skip
    numbers = [f.name for f in fields(Operation) if str(f.type) in {"Num", "float"}]
    assert len(numbers) >= 8
    for op in operations(job):
        for name in numbers:
            value = np.asarray(getattr(op, name), dtype=float)
            assert np.isfinite(value).all(), (op.name, name)
            assert (value >= 0).all(), (op.name, name)
