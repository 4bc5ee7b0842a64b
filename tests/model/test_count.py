"""The module has the parameters and the FLOPs that the planner's formulas say, model by model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import torch
from tests.model.shapes import BIASED_EXPERTS, DENSE, KINDS, WINDOWED, made, tokens
from tests.model.test_supported import REFUSED
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crore.catalog import load_catalog
from crore.cost import forward_flops_per_token, parameters, shape_of
from crore.cost.shape import weights
from crore.errors import InputError
from crore.model import build_decoder, check_buildable
from crore.model.count import count, count_forward_flops, count_parameters, pairs

CATALOG = load_catalog()
BUILT = [name for name in CATALOG.models() if name not in REFUSED]
MTP = [name for name in BUILT if CATALOG.model(name).mtp_layers]
SEQ_LEN = 6000
"""Beyond the windows of most models; no multiple of any."""


@contextmanager
def unset() -> Iterator[None]:
    """Build faster: nothing is counted of the values that torch would draw."""
    with (
        mock.patch.object(nn.Linear, "reset_parameters"),
        mock.patch.object(nn.Embedding, "reset_parameters"),
    ):
        yield


@pytest.fixture(scope="session")
def counted() -> dict[str, tuple[int, int]]:
    """Parameters of every model that is built, and of its prediction modules."""
    with unset():
        return {
            name: count_parameters(build_decoder(CATALOG.model(name), 1, mtp=True))
            for name in BUILT
        }


@pytest.mark.parametrize("name", BUILT)
def test_a_module_holds_the_parameters_of_the_formula(name, counted):
    shape = shape_of(CATALOG.model(name))
    assert counted[name] == (parameters(shape), weights(shape).mtp)


def shallow(spec):
    """Return a model with layers enough for one of each kind, and some to spare."""
    kinds = max(3, spec.first_dense + 2 * spec.moe_every, spec.window_every, spec.global_every)
    return replace(spec, layers=min(spec.layers, kinds + 1))


@pytest.mark.parametrize("name", BUILT)
def test_a_module_runs_the_flops_of_the_formula(name):
    spec = shallow(CATALOG.model(name))
    length = min(SEQ_LEN, spec.max_positions or SEQ_LEN)
    with unset():
        counts = count(spec, length)
    expected = forward_flops_per_token(shape_of(spec), float(length))
    assert counts.forward_flops_per_token == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", MTP)
def test_prediction_modules_run_the_flops_of_the_formula(name):
    spec = shallow(CATALOG.model(name))
    with unset():
        counts = count(spec, SEQ_LEN, mtp=True)
    shape = shape_of(spec)
    expected = forward_flops_per_token(shape, float(SEQ_LEN), float(spec.mtp_layers))
    assert counts.forward_flops_per_token == pytest.approx(expected, rel=1e-12)
    assert counts.mtp_parameters == weights(shape).mtp


@pytest.mark.parametrize("name", ["nano-5m", "llama3-8b", "deepseek-v2-lite", "gpt-oss-20b"])
def test_all_layers_of_a_model_run_the_flops_of_the_formula(name):
    with unset():
        counts = count(CATALOG.model(name), 512)
    expected = forward_flops_per_token(shape_of(CATALOG.model(name)), 512.0)
    assert counts.forward_flops_per_token == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_layer_has_the_counts_of_the_formula(spec):
    for tied in (False, True):
        model = replace(spec, tied_embeddings=tied)
        counts, shape = count(model, 16), shape_of(model)
        assert counts.parameters == parameters(shape)
        assert counts.forward_flops_per_token == pytest.approx(
            forward_flops_per_token(shape, 16.0), rel=1e-12
        )


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_are_not_built_are_refused_by_name(name):
    with pytest.raises(InputError, match=f"^{name} has"):
        check_buildable(CATALOG.model(name))
    with pytest.raises(InputError, match=f"^{name} has"):
        count(CATALOG.model(name), 16)


def test_products_are_those_torch_counts_when_the_model_really_runs():
    model, x = made(DENSE), tokens(DENSE, 1)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(x)
    ran = counter.get_flop_counts()["Global"]
    cores = ran[torch.ops.aten.bmm]
    # Written out, a core computes every pair, those that causality hides too.
    per_pair = DENSE.layers * DENSE.heads * 2 * 2 * DENSE.head_dim
    assert cores == 16 * 16 * per_pair
    assert count(DENSE, 16).forward_flops == sum(ran.values()) - cores + pairs(16, 0) * per_pair


def test_counting_leaves_a_model_as_it_was():
    model = build_decoder(WINDOWED, 16)
    assert count_forward_flops(model) == count_forward_flops(model)
    cores = [layer.get_submodule("attention.core") for layer in model.layers.values()]
    assert all("forward" not in vars(core) for core in cores)
    assert not any(module._forward_hooks for module in model.modules())


def test_biases_of_experts_count_where_a_token_meets_them():
    plain = count(replace(BIASED_EXPERTS, bias=False), 16)
    # Per token: query, key, value, output; gate, up, down of the dense layer, of two experts of
    # two layers each, and of the shared ones.
    attention, experts = 3 * (32 + 16 + 16 + 32), 2 * 2 * (16 + 16 + 32)
    dense, shared = 48 + 48 + 32, 2 * (32 + 32 + 32)
    more = 2 * 16 * (attention + experts + dense + shared)
    assert count(BIASED_EXPERTS, 16).forward_flops - plain.forward_flops == more


def test_pairs_are_those_of_a_triangle_and_of_a_band():
    assert pairs(4, 0) == 1 + 2 + 3 + 4
    assert pairs(6, 2) == 1 + 5 * 2
    assert pairs(3, 9) == pairs(3, 0)
