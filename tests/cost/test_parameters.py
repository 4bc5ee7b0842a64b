"""Parameters by rows: their elements are the model's, and padding is what FSDP sends."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost.parameters import (
    Parameter,
    dense_parameters,
    expert_parameters,
    padded,
    sparse_parameters,
)


@pytest.mark.parametrize(
    "model", ["llama3-8b", "mixtral-8x7b", "deepseek-v3", "baichuan-13b", "gpt2-124m", "qwen3-8b"]
)
def test_the_elements_of_all_layers_are_those_of_the_model(make_job, model):
    job = make_job(model)
    w, s = job.weights, job.shape
    layers = s.dense * padded(dense_parameters(job), 1.0)
    layers += s.moe * padded(sparse_parameters(job), 1.0)
    final = s.norm_vectors * s.hidden
    plain = s.attention * w.attention + s.dense * w.dense + s.moe * w.shared + w.norms - final
    assert layers == pytest.approx(plain, rel=1e-12)
    experts = padded(expert_parameters(job, 1.0), 1.0)
    assert s.moe * experts == pytest.approx(s.moe * s.experts * w.expert, rel=1e-12)


def test_rows_are_filled_up_to_the_ranks():
    some = [Parameter(rows=10.0, columns=3.0, count=2.0), Parameter(rows=1.0)]
    filled = np.asarray(padded(some, np.array([1.0, 4.0, 16.0])))
    assert filled.tolist() == [61.0, 2 * 12 * 3 + 4, 96 + 16]


def test_experts_that_do_not_divide_are_cut_through_their_widths(make_job):
    """Four experts over 64 ranks would be sent as 64, where 14,336 and 4,096 rows divide."""
    job = make_job("mixtral-8x7b", ep=2)
    one = padded(expert_parameters(job, 1.0), 1.0)
    assert padded(expert_parameters(job, 64.0), 64.0) == one
    assert padded(expert_parameters(job, 48.0), 48.0) == 12 * one


def test_tensor_parallelism_cuts_matrices_and_leaves_norms(make_job):
    whole, cut = (padded(dense_parameters(make_job(tp=tp)), 1.0) for tp in (1, 8))
    norms = 2 * 4096
    assert cut - norms == (whole - norms) / 8
