"""The listed matrices are the counted weights, and adapters grow with their sides."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost import parameters, shape_of
from crore.cost.arrays import stack_columns
from crore.cost.linears import (
    adapter_parameters,
    largest_linear,
    linear_elements,
    linear_rows,
    linears,
)
from crore.cost.shape import weights


def test_listed_matrices_are_all_of_a_model_but_tables_norms_biases_and_routers(catalog):
    for name in catalog.models():
        s = shape_of(catalog.model(name))
        w = weights(s)
        rest = parameters(s) - w.embedding - w.head - w.norms - s.moe * s.hidden * s.experts
        listed = linear_elements(linears(s))
        # Biases, head norms and convolutions: under half a percent.
        assert 0 <= rest - listed <= 0.005 * rest, name


@pytest.mark.parametrize("name", ["llama3-8b", "llama2-70b", "baichuan-13b", "mixtral-8x7b"])
def test_without_biases_they_are_exactly_that(name, shapes):
    s = shapes(name)
    w = weights(s)
    rest = parameters(s) - w.embedding - w.head - w.norms - s.moe * s.hidden * s.experts
    assert linear_elements(linears(s)) == rest


@pytest.mark.parametrize(
    ("name", "rank", "trainable"),
    [
        # What peft's print_trainable_parameters shows for the seven projections of a layer.
        ("llama3-8b", 16, 41_943_040),
        ("llama2-7b", 16, 39_976_960),
        ("mistral-7b", 16, 41_943_040),
    ],
)
def test_adapters_count_as_peft_counts_them(name, rank, trainable, shapes):
    assert adapter_parameters(linears(shapes(name)), rank) == trainable


def test_rows_and_the_largest_matrix_of_llama_2_7b(shapes):
    found = linears(shapes("llama2-7b"))
    assert linear_rows(found) == 32 * (4 * 4096 + 2 * 11008 + 4096)
    assert largest_linear(found) == 4096 * 11008


def test_a_column_of_models_is_each_model(catalog):
    names = ("baichuan-13b", "deepseek-v3", "qwen3-next-80b-a3b", "nemotron-h-56b")
    each = [shape_of(catalog.model(name)) for name in names]
    together = np.asarray(linear_elements(linears(stack_columns(each))))
    assert together.tolist() == [linear_elements(linears(s)) for s in each]
