"""The dense feed-forward, gated and not."""

from __future__ import annotations

import math

import pytest
import torch
from tests.model.shapes import drawn

from crore.model.feed_forward import FeedForward


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def bias(request):
    return request.param


def built(*, gated, bias):
    module = FeedForward(6, 10, gated=gated, bias=bias)
    with torch.no_grad():
        for n, parameter in enumerate(module.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=n))
    return module


def linear(part, x):
    out = x @ part.weight.T
    return out if part.bias is None else out + part.bias


def test_a_gated_one_multiplies_silu_of_the_gate(bias):
    module, x = built(gated=True, bias=bias), drawn(2, 3, 6)
    gate = linear(module.gate, x)
    inner = gate / (1 + torch.exp(-gate)) * linear(module.up, x)
    assert torch.allclose(module(x), linear(module.down, inner), atol=1e-5)


def test_a_plain_one_is_gelu_by_tanh(bias):
    module, x = built(gated=False, bias=bias), drawn(2, 3, 6)
    up = linear(module.up, x)
    cubic = math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)  # arXiv 1606.08415 §2
    inner = up / 2 * (1 + torch.tanh(cubic))
    assert module.gate is None
    assert torch.allclose(module(x), linear(module.down, inner), atol=1e-5)
