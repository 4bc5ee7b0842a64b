"""Linear layers in 8 bits: as exact as their rounding allows, and models that learn in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.model.shapes import DENSE, MIXTURE, drawn, made, tokens
from torch import nn

from crore.model.float8 import BACKWARD, FORWARD, apply_float8, float8_linear, quantize
from crore.model.loss import Loss

ROUNDING = {FORWARD: 2.0**-4, BACKWARD: 2.0**-3}
"""Largest error of a number that is rounded to 3 and to 2 bits behind the point, as a share."""


@pytest.mark.parametrize("kind", [FORWARD, BACKWARD], ids=["e4m3", "e5m2"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_a_tensor_fills_its_format_whatever_its_size(kind, scale):
    x = drawn(64, 64) * scale
    narrow, factor = quantize(x, kind)
    assert narrow.dtype == kind
    back = narrow.float() * factor
    assert float(narrow.float().abs().max()) == torch.finfo(kind).max
    # Below the smallest normal number steps no longer shrink.
    floor = torch.finfo(kind).smallest_normal * factor
    assert ((back - x).abs() <= ROUNDING[kind] * torch.maximum(x.abs(), floor) * 1.001).all()


def test_a_tensor_of_zeros_stays_zero():
    narrow, factor = quantize(torch.zeros(4, 4), FORWARD)
    assert not narrow.float().any()
    assert torch.isfinite(factor)


def test_a_number_that_is_none_is_not_hidden():
    narrow, factor = quantize(torch.tensor([1.0, torch.nan]), FORWARD)
    assert torch.isnan(narrow.float() * factor).all()


def results(x, linear, run):
    """Return the output, and the gradients of the input and the weight."""
    x = x.clone().requires_grad_()
    out = run(x)
    wanted = drawn(*out.shape, seed=9)
    return out.detach(), *torch.autograd.grad((out * wanted).sum(), [x, linear.weight])


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_errors_are_those_of_rounding_the_operands(bias):
    linear = nn.Linear(64, 96, bias=bias)
    with torch.no_grad():
        linear.weight.copy_(drawn(96, 64, seed=5))
    x = drawn(2, 32, 64)
    narrow = results(x, linear, lambda y: float8_linear(y, linear))
    wide = results(x, linear, linear)
    # A uniform rounding error of at most r has deviation r/√3, less where a number lies high
    # between two powers of two; two operands with independent errors.
    e4, e5 = ROUNDING[FORWARD] / 3**0.5, ROUNDING[BACKWARD] / 3**0.5
    limits = ((e4**2 + e4**2) ** 0.5, (e4**2 + e5**2) ** 0.5, (e4**2 + e5**2) ** 0.5)
    for got, exact, limit in zip(narrow, wide, limits, strict=True):
        error = float((got - exact).norm() / exact.norm())
        assert limit / 4 < error < limit


def test_the_gradient_of_a_bias_is_exact():
    linear = nn.Linear(16, 32)
    float8_linear(drawn(16, 16), linear).sum().backward()
    assert linear.bias.grad is not None
    assert torch.equal(linear.bias.grad, torch.full((32,), 16.0))


def test_the_type_that_comes_in_goes_out():
    linear = nn.Linear(16, 32, bias=False)
    x = drawn(3, 16, 16).bfloat16().requires_grad_()
    out = float8_linear(x, linear)
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


def replaced(model):
    """Return the linear layers that run in 8 bits."""
    return {
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "forward" in vars(module)
    }  # fmt: skip


def test_routers_tables_and_odd_widths_stay_as_they_are():
    model = made(replace(MIXTURE, shared_ffn=24))
    apply_float8(model)
    block = {f"layers.1.attention.{part}" for part in ("query", "key", "value", "output")}
    first = {name.replace("layers.1", "layers.0") for name in block}
    first |= {f"layers.0.feed_forward.{part}" for part in ("gate", "up", "down")}
    last = {name.replace("layers.1", "layers.2") for name in block}
    assert replaced(model) == block | first | last


def test_a_small_model_learns_as_it_does_in_fp32():
    losses = {}
    for narrow in (False, True):
        model, samples = made(DENSE), tokens(DENSE, 4, 17)
        if narrow:
            apply_float8(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in range(25):
            loss = Loss()(model(samples[:, :-1]), samples[:, 1:]) / 64
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[narrow] = float(loss.detach())
    assert losses[False] < 3.5  # from log 64 = 4.16
    assert losses[True] == pytest.approx(losses[False], rel=0.02)
