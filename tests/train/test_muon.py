"""Muon's step on one matrix and on a stack of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crore.train.adamw import OptimSettings
from crore.train.muon import Muon, orthogonal

SETTINGS = OptimSettings(lr=0.02)


def stepped(parameter, gradients):
    optimizer = Muon({"layers.0.up.weight": parameter}, SETTINGS)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step(0.5)
    return parameter.detach()


def drawn(*shape):
    draw = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=draw), [
        torch.randn(shape, generator=draw) for _ in range(4)
    ]


@pytest.mark.parametrize("shape", [(8, 8), (48, 16), (16, 48)])
def test_a_matrix_moves_as_under_torchs_muon_to_the_bit(shape):
    start, gradients = drawn(*shape)
    theirs = nn.Parameter(start.clone())
    optimizer = torch.optim.Muon(
        [theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for gradient in gradients:
        theirs.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(stepped(nn.Parameter(start), gradients), theirs)


def test_experts_move_each_as_a_matrix_of_its_own():
    start, gradients = drawn(3, 16, 24)
    stack = stepped(nn.Parameter(start.clone()), gradients)
    for expert in range(3):
        alone = stepped(nn.Parameter(start[expert].clone()), [g[expert] for g in gradients])
        torch.testing.assert_close(stack[expert], alone)


def test_singular_values_come_near_one():
    matrices = torch.randn(2, 20, 50, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrices, 5).float())
    assert ((values > 0.5) & (values < 1.5)).all()
    assert torch.linalg.svdvals(matrices).max() > 5


def test_an_update_is_as_large_as_adamws():
    start, gradients = drawn(64, 32)
    optimizer = Muon({"w": (weight := nn.Parameter(torch.zeros_like(start)))}, SETTINGS)
    weight.grad = gradients[0]
    optimizer.step(1.0)
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2 * 0.02, rel=0.25)


def test_momentum_is_the_only_state_of_a_matrix():
    named = {
        "layers.0.up.weight": nn.Parameter(torch.zeros(4, 4)),
        "norm.weight": nn.Parameter(torch.ones(4)),
    }
    assert set(Muon(named, SETTINGS).state_tensors()) == {
        "layers.0.up.weight.momentum", "norm.weight.exp_avg", "norm.weight.exp_avg_sq"
    }  # fmt: skip
