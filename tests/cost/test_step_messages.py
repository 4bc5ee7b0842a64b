"""Messages go where an axis has ranks, as often and as large as each axis needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost import fitted_constants, operations
from crore.cost.machine import on_network
from crore.cost.operations import Axis
from crore.cost.step_messages import group_of, uplink_share

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
        ranks = group_of(published.job, op.axis, CONSTANTS, op.expert).ranks
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
    ("zero", "once", "often"),
    [
        (0, {"gradient all-reduce"}, set()),
        (1, {"gradient reduce-scatter", "weight all-gather"}, set()),
        # Whoever keeps no whole gradients scatters them as they come (arXiv 1910.02054 §5.2).
        (2, {"weight all-gather"}, {"gradient scatter"}),
        (3, set(), {"shard gather", "shard gather again", "gradient scatter"}),
    ],
)
def test_each_stage_sends_gradients_and_weights_as_often_as_it_must(zero, once, often, make_job):
    job = make_job(stack="megatron-2025", dp_shard=8, zero=zero)
    sent = messages(job, "dp_shard") + messages(job, "dp_replicate")
    assert {op.name for op in sent if op.repeat == "step"} == once
    assert {op.name for op in sent if op.repeat == "micro_batch"} == often
    assert all(op.count == (1 if op.repeat == "step" else 32) for op in sent)


def test_gradients_scattered_layer_by_layer_are_the_gradients_of_a_step(make_job):
    """ZeRO-2's 32 messages of one micro-batch carry what ZeRO-1's one of a step does."""
    volume = {}
    for zero in (1, 2):
        job = make_job(dp_shard=8, zero=zero)
        (op,) = [op for op in messages(job, "dp_shard") if op.collective == "reduce_scatter"]
        volume[zero] = op.message_bytes * op.count
    layers_alone = volume[2] / volume[1]
    assert layers_alone == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_every_stage_shards_inside_its_group_and_reduces_across_the_replicas(zero, make_job):
    job = make_job(dp_shard=8, dp_replicate=4, zero=zero)
    assert group_of(job, "dp_shard", CONSTANTS).ranks == 8
    assert group_of(job, "dp_replicate", CONSTANTS).ranks == 4
    assert {op.name for op in messages(job, "dp_replicate")} == {"replica all-reduce"}
    (across,) = messages(job, "dp_replicate")
    assert (across.collective, across.repeat, across.count) == ("all_reduce", "step", 1)
    whole = messages(make_job(dp_shard=32, zero=0), "dp_replicate")[0].message_bytes
    assert across.message_bytes == pytest.approx(whole / 8)


def test_without_shards_all_ranks_reduce_together(make_job):
    job = make_job(dp_shard=8, dp_replicate=4, zero=0)
    assert group_of(job, "dp_replicate", CONSTANTS).ranks == 32
    assert {op.name for op in messages(job, "dp_replicate")} == {"gradient all-reduce"}


def test_hybrid_sharding_sums_its_shards_over_the_replicas(make_job):
    job = make_job(stack="fsdp", dp_shard=8, dp_replicate=4, zero=3)
    (op,) = messages(job, "dp_replicate")
    gather = messages(job, "dp_shard")[0]
    assert op.collective == "all_reduce"
    assert group_of(job, "dp_replicate", CONSTANTS).ranks == 4
    # A shard of all layers in 32-bit gradients, against one layer whole in 16-bit weights.
    assert op.message_bytes == pytest.approx(32 / 8 * 2 * gather.message_bytes)


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_expert_gradients_go_to_the_ranks_that_hold_the_same_expert(zero, make_job):
    """32 data ranks and 8 experts apart: four ranks share each."""
    job = make_job("mixtral-8x7b", dp_shard=32, ep=8, zero=zero)
    experts = [op for op in messages(job, "dp_shard") if op.expert]
    assert {op.name for op in experts} == {
        f"expert {op.name}" for op in messages(job, "dp_shard") if not op.expert
    }
    assert group_of(job, "dp_shard", CONSTANTS, expert=True).ranks == 4
    assert group_of(job, "dp_shard", CONSTANTS).ranks == 32
    alone = make_job("mixtral-8x7b", dp_shard=8, ep=8, zero=zero)
    assert not [op for op in messages(alone, "dp_shard") if op.expert]


def test_replicas_of_a_shard_group_hold_experts_of_their_own(make_job):
    job = make_job("mixtral-8x7b", dp_shard=8, dp_replicate=4, ep=4, zero=1)
    sent = {op.name: op for op in messages(job, "dp_replicate")}
    assert set(sent) == {"replica all-reduce", "expert replica all-reduce"}
    for expert in (False, True):
        assert group_of(job, "dp_replicate", CONSTANTS, expert=expert).ranks == 4
    assert group_of(job, "dp_shard", CONSTANTS, expert=True).ranks == 2


def test_tied_tables_on_two_stages_exchange_gradients(make_job):
    names = {op.name for op in messages(make_job("gpt2-xl", pp=2))}
    assert "tied table exchange" in names
    assert "tied table exchange" not in {op.name for op in messages(make_job("gpt2-xl"))}
    assert "tied table exchange" not in {op.name for op in messages(make_job("llama3-8b", pp=2))}


@pytest.mark.parametrize(
    ("axis", "ranks", "inside"),
    [("tp", 4, 4), ("cp", 2, 2), ("dp_shard", 16, 2), ("dp_replicate", 2, 1), ("pp", 2, 1),
     ("ep", 8, 8)],
)  # fmt: skip
def test_ranks_are_laid_out_tensor_innermost_and_pipeline_outermost(axis, ranks, inside, make_job):
    """Domains of 8: 4 tensor ranks leave 2 others of a domain to the data-parallel group."""
    job = make_job(
        "mixtral-8x7b", tp=4, cp=2, pp=2, dp_shard=8, dp_replicate=2, ep=8, etp=1, zero=1
    )
    group = group_of(job, axis, CONSTANTS)
    assert (float(group.ranks), float(group.inner)) == (ranks, inside)


def tapered(make_job, taper, pod_size, **layout):
    """Return a job whose leaf switches join `pod_size` GPUs, with a taper above them."""
    job = make_job(**layout)
    machine = on_network(job.machine, hop_latency_s=0.0, taper=taper, pod_size=pod_size)
    return replace(job, machine=machine)


@pytest.mark.parametrize(
    ("ranks", "stride", "inner", "all_to_all", "share"),
    [
        (32, 1, 1, False, 1.0),  # inside a leaf
        (32, 1, 1, True, 1.0),
        (64, 1, 1, False, 1.0),  # one link of 32 leaves: 8 of 32 are enough for it
        (64, 1, 8, False, 1.0),  # eight rings of domains: 8 links of 32
        (64, 1, 16, False, 0.5),  # sixteen, through 8
        (64, 8, 1, False, 1.0),  # one of 4, and a quarter of the bandwidth
        (64, 16, 1, False, 0.5),  # one of 2
        (64, 32, 1, False, 0.25),  # each alone on its leaf
        (64, 64, 1, False, 0.25),
        (64, 1, 1, True, 0.25 * 63 / 32),  # 32 of 63 peers are beyond the leaf
        (64, 1, 8, True, 0.25 * 56 / 32),  # 32 of 56 beyond the domain
        (64, 1, 32, True, 0.25),  # all beyond the domain are beyond the leaf
        (64, 32, 1, True, 0.25),
    ],
)
def test_a_taper_of_a_quarter_leaves_a_group_its_share(
    make_job, ranks, stride, inner, all_to_all, share
):
    machine = tapered(make_job, 0.25, 32.0).machine
    found = uplink_share(machine, float(ranks), float(stride), float(inner), all_to_all)
    assert float(found) == pytest.approx(share)


@given(
    taper=st.floats(0.05, 1.0), pod=st.integers(1, 512), ranks=st.integers(1, 4096),
    stride=st.integers(1, 512), inner=st.integers(1, 72), all_to_all=st.booleans(),
)  # fmt: skip
def test_a_share_is_between_the_taper_and_one(
    make_job, taper, pod, ranks, stride, inner, all_to_all
):
    machine = tapered(make_job, taper, float(pod)).machine
    group = (float(ranks), float(stride), float(min(inner, ranks)))
    share = float(uplink_share(machine, *group, all_to_all))
    assert min(taper, 1) * (1 - 1e-12) <= share <= 1
    wider = tapered(make_job, min(2 * taper, 1.0), float(pod)).machine
    assert float(uplink_share(wider, *group, all_to_all)) >= share


def test_a_taper_narrows_the_groups_that_leave_their_leaf_alone(make_job):
    layout = {"tp": 8, "dp_shard": 64, "zero": 1}
    full, narrow = (tapered(make_job, taper, 16.0, **layout) for taper in (1.0, 0.25))
    shares: dict[Axis, float] = {"tp": 1.0, "dp_shard": 0.5}
    for axis, share in shares.items():
        ratio = (group_of(narrow, axis, CONSTANTS).outer_bytes_per_s
                 / group_of(full, axis, CONSTANTS).outer_bytes_per_s)  # fmt: skip
        assert float(ratio) == pytest.approx(share)


def test_shares_are_picked_per_candidate(make_job):
    machine = tapered(make_job, np.array([1.0, 0.5, 0.25]), 1.0).machine
    assert np.allclose(uplink_share(machine, 8.0, 8.0, 1.0, all_to_all=False), [1, 0.5, 0.25])
