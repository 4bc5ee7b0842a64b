"""What a job derives: tokens, micro-batches, the fullest stage, what is kept and what redone."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost import operations
from crore.cost.layout import FULL, LIGHT, SELECTIVE


def op_named(job, name):
    """Return the forward operation of this name."""
    return next(op for op in operations(job) if op.name == name and op.phase == "forward")


def test_context_ranks_share_the_tokens_of_a_micro_batch(make_job):
    job = make_job(micro_batch=2, cp=4, tp=2, sequence_parallel=1)
    assert (job.tokens, job.narrow_tokens) == (2048, 1024)
    assert make_job(tp=2).narrow_tokens == 4096


def test_micro_batches_are_what_the_data_ranks_leave(make_job):
    assert make_job(global_batch=64.0, dp_shard=4, dp_replicate=2, micro_batch=2).micro_batches == 4


@pytest.mark.parametrize(
    ("model", "pp", "layers", "experts", "dense"),
    [
        ("deepseek-v3", 1, 61, 58, 3),
        ("deepseek-v3", 16, 4, 4, 0),
        ("qwen3-235b-a22b", 8, 12, 12, 0),
        ("llama4-maverick-400b", 4, 12, 6, 6),
        ("llama3.1-405b", 16, 8, 0, 8),
    ],
)
def test_the_fullest_stage_holds_whole_layers(model, pp, layers, experts, dense, make_job):
    job = make_job(model, pp=pp)
    found = (job.stage_layers, job.stage_moe, job.stage_dense)
    assert [float(value) for value in found] == pytest.approx([layers, experts, dense])


def test_document_length_bounds_what_attention_reaches(make_job):
    assert make_job().context_len == 4096


@pytest.mark.parametrize(
    ("mode", "name", "redone", "kept"),
    [
        (0.0, "qkv", 0, 1),
        (LIGHT, "feed-forward norm", 1, 1),
        (LIGHT, "feed-forward activation", 1, 1),
        (LIGHT, "qkv", 0, 0),
        (SELECTIVE, "flash attention", 1, 0),
        (SELECTIVE, "qkv", 0, 1),
        (FULL, "qkv", 1, 0),
        (FULL, "flash attention", 1, 0),
    ],
)
def test_each_mode_redoes_and_drops_what_it_names(mode, name, redone, kept, make_job):
    job = make_job(stack="megatron-2025", recompute=mode)
    op = op_named(job, name)
    assert (float(job.redo_share(op)), float(job.kept_share(op))) == (redone, kept)


def test_torch_native_selective_recompute_keeps_attention_and_every_second_product(make_job):
    """pytorch/torchtitan's per-operation policy."""
    job = make_job(stack="torchtitan", recompute=SELECTIVE)
    product, core = op_named(job, "qkv"), op_named(job, "flash attention")
    norm = op_named(job, "attention norm")
    assert (job.redo_share(product), job.redo_share(core), job.redo_share(norm)) == (0.5, 0, 1)
    assert (job.kept_share(core), job.kept_share(norm)) == (1, 0.5)


def test_only_the_first_layers_of_a_stage_are_redone_when_so_many_are_named(make_job):
    job = make_job(pp=2, recompute=FULL, recompute_layers=4)
    assert job.redo_layer == 4 / 16
    assert make_job(pp=2, recompute=FULL, recompute_layers=99).redo_layer == 1
    assert make_job(pp=2, recompute=0, recompute_layers=4).redo_layer == 0


def test_routed_tokens_are_those_of_every_tensor_rank_that_shares_an_expert(make_job):
    alone = make_job("mixtral-8x7b", tp=4, etp=1, ep=2)
    shared = make_job("mixtral-8x7b", tp=4, etp=4)
    assert alone.expert_tokens == 4096 * 2 / 4
    assert shared.expert_tokens == 4096 * 2


def test_shares_of_many_jobs_are_columns(published):
    job = published.job
    assert np.shape(job.stage_share) == (1062,)
    assert ((job.stage_share > 0) & (job.stage_share <= 1)).all()
    transformer = job.shape.moe + job.shape.dense == job.shape.layers  # no separate mixer layers
    assert transformer.sum() > 1000
    feed = (job.stage_moe + job.stage_dense)[transformer]
    np.testing.assert_allclose(feed, job.stage_layers[transformer], rtol=1e-12)
