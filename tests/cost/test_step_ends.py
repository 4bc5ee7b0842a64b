"""The ends of the pipeline and the optimizer hold and move what they must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crore.cost import operations, parameters
from crore.cost.step_ends import (
    expert_data_ranks,
    expert_shard_ranks,
    local_weights,
    stage_weights,
)


def named(job, name, phase="forward"):
    """Return the one operation of this name."""
    (found,) = [op for op in operations(job) if op.name == name and op.phase == phase]
    return found


@pytest.mark.parametrize(
    "model", ["llama3-8b", "gpt2-xl", "mixtral-8x7b", "nemotron-h-56b", "qwen3-next-80b-a3b"]
)
def test_one_rank_holds_every_parameter(model, make_job):
    job = make_job(model)
    plain, experts = stage_weights(job)
    # A share of the final norm counts with the layers, and nothing else is missing.
    assert plain + experts == pytest.approx(float(parameters(job.shape)), rel=1e-9)


def test_tensor_and_expert_ranks_share_the_weights(make_job):
    whole, part = make_job("mixtral-8x7b"), make_job("mixtral-8x7b", tp=2, etp=1, ep=8, dp_shard=4)
    norms = float(whole.weights.norms)
    plain, experts = stage_weights(whole)
    plain_part, experts_part = stage_weights(part)
    assert experts_part == experts / 8
    assert plain_part - norms == pytest.approx((plain - norms) / 2)


def test_each_end_of_a_pipeline_holds_one_table(make_job):
    job = make_job(pp=4)
    layers, _, table = local_weights(job)
    assert table == 128_256 * 4096
    assert stage_weights(job)[0] == layers + table
    whole = make_job()
    assert stage_weights(whole)[0] == local_weights(whole)[0] + 2 * table


def test_prediction_modules_are_held_where_they_are_trained(make_job):
    trained, plain = make_job("deepseek-v3", mtp=1.0), make_job("deepseek-v3")
    held = stage_weights(trained)[0] - stage_weights(plain)[0]
    assert held == trained.weights.mtp > 0


@pytest.mark.parametrize(("stack", "bytes_each"), [("torchtitan", 10.0), ("megatron-2025", 2.0)])
def test_unfused_cross_entropy_keeps_two_32_bit_copies_of_the_logits(stack, bytes_each, make_job):
    loss = named(make_job(stack=stack), "cross-entropy")
    assert loss.saved_bytes == bytes_each * 4096 * 128_256


def test_logits_of_405b_take_half_a_gibibyte_in_32_bits(make_job):
    """8,192 tokens, 128,256 words over 8 tensor ranks."""
    job = make_job("llama3.1-405b", stack="torchtitan", seq_len=8192.0, tp=8)
    copies = named(job, "cross-entropy").saved_bytes - 2 * 8192 * 128_256 / 8
    assert copies / 2 / 2**30 == pytest.approx(0.49, abs=0.005)


def test_the_optimizer_reads_and_writes_its_shard(make_job):
    whole = named(make_job(zero=0, dp_shard=8), "optimizer", "step")
    shard = named(make_job(zero=1, dp_shard=8), "optimizer", "step")
    assert shard.bytes_moved == pytest.approx(whole.bytes_moved / 8)
    per_weight = whole.bytes_moved / float(parameters(make_job().shape))
    assert per_weight == pytest.approx(2 * 12 + 4 + 2 + 2, rel=1e-6)


def test_offloaded_states_cross_the_host_link_twice_a_step(make_job):
    job = make_job(offload_optimizer=0.5, dp_shard=8)
    (copy,) = [op for op in operations(job) if op.kind == "transfer"]
    states = float(parameters(job.shape)) / 8 * 12
    assert copy.repeat == "step"
    assert copy.message_bytes == pytest.approx(2 * 0.5 * states, rel=1e-6)


def test_gradients_are_added_to_their_buffer_by_stacks_that_keep_one(make_job):
    names = {
        stack: {op.name for op in operations(make_job(stack=stack))}
        for stack in ("megatron-2021", "megatron-2025", "fsdp")
    }
    assert "gradient accumulation" in names["megatron-2021"] & names["megatron-2025"]
    assert "gradient accumulation" not in names["fsdp"]
    unfused, fused = (
        named(make_job(stack=stack), "gradient accumulation", "backward").bytes_moved
        for stack in ("megatron-2021", "megatron-2025")
    )
    assert unfused / fused == pytest.approx(10 / 8)


def test_half_size_gradient_buffers_are_read_and_written_at_half_size(make_job):
    job = make_job(stack="megatron-2025")
    half = replace(job, grad_bytes=2.0)
    moved = [named(j, "gradient accumulation", "backward").bytes_moved for j in (job, half)]
    assert moved[1] == moved[0] / 2


@pytest.mark.parametrize(
    ("axes", "ranks"),
    [({"dp_shard": 8}, 8), ({"dp_shard": 8, "ep": 8}, 1), ({"dp_shard": 8, "tp": 2, "ep": 4}, 4)],
)
def test_an_expert_is_held_by_the_ranks_left_over(axes, ranks, make_job):
    assert expert_data_ranks(make_job("mixtral-8x7b", **axes)) == ranks


@pytest.mark.parametrize(
    ("axes", "ranks"),
    [
        ({"dp_shard": 8, "ep": 2}, 4),
        ({"dp_shard": 8, "dp_replicate": 16, "ep": 2}, 4),
        ({"dp_shard": 6, "dp_replicate": 4, "ep": 4}, 1),
        ({"dp_shard": 2, "dp_replicate": 8, "ep": 8}, 1),
        ({"dp_shard": 4, "cp": 2, "tp": 2, "ep": 4, "etp": 2}, 2),
    ],
)
def test_a_shard_group_holds_its_own_copy_of_the_experts(axes, ranks, make_job):
    assert expert_shard_ranks(make_job("mixtral-8x7b", **axes)) == ranks
