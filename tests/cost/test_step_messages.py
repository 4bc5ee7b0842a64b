"""Messages go where an axis has ranks, as often and as large as each axis needs."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost import fitted_constants, operations
from crore.cost.step_messages import group_of

CONSTANTS = fitted_constants()


def messages(job, axis=None):
    """Return the collectives of a step that are sent at all, of one axis or of all."""
    return [
        op
        for op in operations(job)
        if op.kind == "collective" and np.any(op.count) and axis in (None, op.axis)
    ]


def counts(job, axis):
    """Return how often each message of an axis is sent, by name and phase."""
    return {(op.name, op.phase): float(op.count) for op in messages(job, axis)}


def test_one_rank_sends_nothing(make_job):
    for model in ("llama3-8b", "deepseek-v3", "nemotron-h-56b"):
        for zero in range(4):
            assert messages(make_job(model, zero=zero, mtp=1.0)) == []


def test_every_message_of_the_published_runs_has_somebody_to_go_to(published):
    sent = 0
    for op in messages(published.job):
        expert = op.repeat == "step" and op.axis == "ep"
        ranks = group_of(published.job, op.axis, CONSTANTS, expert_step=expert).ranks
        count, ranks = np.broadcast_arrays(op.count, ranks)
        assert (count[ranks <= 1] == 0).all(), op.name
        sent += int((count > 0).sum())
    assert sent > 4000


def test_a_group_has_no_more_ranks_in_a_domain_than_ranks(published):
    for axis in ("tp", "cp", "ep", "dp_shard", "dp_replicate", "pp"):
        group = group_of(published.job, axis, CONSTANTS)
        assert np.all(group.inner <= group.ranks)
        assert np.all(group.inner >= 1)
        assert np.all(group.outer >= 1)


def test_sequence_parallel_gathers_and_scatters_twice_a_layer(make_job):
    """arXiv 2205.05198 §4.2.2: the same bytes as one all-reduce per sub-layer."""
    assert counts(make_job(tp=8, sequence_parallel=1), "tp") == {
        (name, phase): 64
        for name in ("tp gather", "tp scatter")
        for phase in ("forward", "backward")
    }
    assert counts(make_job(tp=8), "tp") == {
        ("tp all-reduce", "forward"): 64, ("tp all-reduce", "backward"): 64,
    }  # fmt: skip
    (forward, *_) = messages(make_job(tp=8), "tp")
    assert forward.message_bytes == 2 * 4096 * 4096


def test_experts_without_tensor_parallelism_of_their_own_skip_its_messages(make_job):
    both = counts(make_job("mixtral-8x7b", tp=2, etp=2), "tp")
    alone = counts(make_job("mixtral-8x7b", tp=2, etp=1, ep=2), "tp")
    assert both["tp all-reduce", "forward"] == 64
    assert alone["tp all-reduce", "forward"] == 32


def test_full_recompute_sends_the_layers_messages_again(make_job):
    sent = counts(make_job("mixtral-8x7b", tp=2, ep=2, cp=2, dp_shard=2, recompute=3), "ep")
    assert sent["expert dispatch", "recompute"] == sent["expert dispatch", "forward"] == 32


def test_a_token_is_sent_to_each_of_its_experts_and_back(make_job):
    job = make_job("mixtral-8x7b", ep=8, dp_shard=8)
    sent = [op for op in messages(job, "ep") if op.repeat == "micro_batch"]
    assert {op.name for op in sent} == {"expert dispatch", "expert combine"}
    for op in sent:
        assert op.collective == "all_to_all"
        assert op.message_bytes == 2 * 4096 * 2 * 4096  # 16 bits, tokens, top-2, width


def test_ring_attention_passes_keys_and_values_and_their_gradients_back(make_job):
    sent = {op.phase: op for op in messages(make_job(cp=4), "cp")}
    whole_sequence = 2 * 4096 * 2 * 8 * 128
    assert sent["forward"].message_bytes == whole_sequence
    assert sent["forward"].count == sent["backward"].count == 32


def test_a_stage_passes_its_activation_once_per_chunk(make_job):
    plain, folded = make_job(pp=4), make_job(pp=4, vpp=2, schedule=2)
    assert counts(plain, "pp") == {("pp send", "forward"): 1, ("pp send", "backward"): 1}
    assert counts(folded, "pp") == {("pp send", "forward"): 2, ("pp send", "backward"): 2}
    (first, _) = messages(plain, "pp")
    assert first.message_bytes == 2 * 4096 * 4096


def test_tensor_ranks_scatter_the_boundary_where_the_software_does(make_job):
    def sent(stack, **layout):
        return messages(make_job(stack=stack, pp=2, tp=4, **layout), "pp")[0].message_bytes

    assert sent("megatron-2025") == sent("fsdp") / 4
    assert sent("fsdp", sequence_parallel=1) == sent("fsdp") / 4


def test_full_sharding_moves_three_volumes_a_step_recomputed_or_not(make_job):
    """arXiv 1910.02054 §7.2.2: a gather for either pass and a scatter of the gradients."""
    for recompute in (0, 3):
        sent = messages(make_job(stack="fsdp", dp_shard=8, zero=3, recompute=recompute), "dp_shard")
        assert sorted((op.collective, op.phase) for op in sent) == [
            ("all_gather", "backward"), ("all_gather", "forward"), ("reduce_scatter", "backward"),
        ]  # fmt: skip
        assert all(op.count == 32 for op in sent)


@pytest.mark.parametrize("axes", [{"dp_shard": 8}, {"cp": 8}, {"dp_shard": 4, "cp": 2}])
def test_data_and_context_ranks_share_one_sharded_copy(axes, make_job):
    job = make_job(stack="fsdp", zero=3, **axes)
    assert len(messages(job, "dp_shard")) == 3
    assert group_of(job, "dp_shard", CONSTANTS).ranks == 8


@pytest.mark.parametrize(
    ("zero", "names"),
    [
        (0, {"gradient all-reduce"}),
        (1, {"gradient reduce-scatter", "weight all-gather"}),
        (2, {"gradient reduce-scatter", "weight all-gather"}),
        (3, set()),
    ],
)
def test_gradients_are_summed_once_a_step(zero, names, make_job):
    sent = messages(make_job(stack="megatron-2025", dp_shard=8, zero=zero), "dp_replicate")
    assert {op.name for op in sent} == names
    assert all(op.repeat == "step" and op.count == 1 for op in sent)


def test_hybrid_sharding_sums_its_shards_over_the_replicas(make_job):
    job = make_job(stack="fsdp", dp_shard=8, dp_replicate=4, zero=3)
    (op,) = messages(job, "dp_replicate")
    gather = messages(job, "dp_shard")[0]
    assert op.collective == "all_reduce"
    assert group_of(job, "dp_replicate", CONSTANTS).ranks == 4
    # A shard of all layers in 32-bit gradients, against one layer whole in 16-bit weights.
    assert op.message_bytes == pytest.approx(32 / 8 * 2 * gather.message_bytes)


def test_expert_gradients_go_to_the_ranks_that_hold_the_same_expert(make_job):
    job = make_job("mixtral-8x7b", dp_shard=32, ep=8)
    sent = {op.name for op in messages(job, "ep") if op.repeat == "step"}
    assert sent == {"expert gradient reduce-scatter", "expert weight all-gather"}
    assert group_of(job, "ep", CONSTANTS, expert_step=True).ranks == 4
    alone = make_job("mixtral-8x7b", dp_shard=8, ep=8)
    assert not [op for op in messages(alone, "ep") if op.repeat == "step"]


def test_tied_tables_on_two_stages_exchange_gradients(make_job):
    names = {op.name for op in messages(make_job("gpt2-xl", pp=2))}
    assert "tied table exchange" in names
    assert "tied table exchange" not in {op.name for op in messages(make_job("gpt2-xl"))}
    assert "tied table exchange" not in {op.name for op in messages(make_job("llama3-8b", pp=2))}


@pytest.mark.parametrize(
    ("axis", "ranks", "inside"),
    [("tp", 4, 4), ("cp", 2, 2), ("dp_replicate", 16, 2), ("pp", 2, 1), ("ep", 8, 8)],
)
def test_ranks_are_laid_out_tensor_innermost_and_pipeline_outermost(axis, ranks, inside, make_job):
    """Domains of 8: 4 tensor ranks leave 2 others of a domain to the data-parallel group."""
    job = make_job("mixtral-8x7b", tp=4, cp=2, pp=2, dp_shard=8, ep=8, etp=1)
    group = group_of(job, axis, CONSTANTS)
    assert (float(group.ranks), float(group.inner)) == (ranks, inside)
