"""The loss against torch's own, over a split vocabulary, with z-loss and further predictions."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tests.model.shapes import drawn
from tests.train.gloo import run

from crore.model.loss import LEFT_OUT, PREDICTION_WEIGHT, Loss

VOCAB, SHAPE = 24, (3, 5)


def logits_and_targets():
    draw = torch.Generator().manual_seed(3)
    return drawn(*SHAPE, VOCAB) * 4, torch.randint(0, VOCAB, SHAPE, generator=draw)


def term(logits, targets, z_weight=0.0):
    """Return cross-entropy and z-loss summed over tokens, by torch's own functions."""
    flat = logits.flatten(0, -2)
    summed = F.cross_entropy(flat, targets.flatten(), reduction="sum")
    return summed + z_weight * flat.logsumexp(-1).square().sum()


@pytest.mark.parametrize("z_weight", [0.0, 1e-2])
def test_it_is_the_share_of_a_batchs_mean_cross_entropy(z_weight):
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    loss = Loss(z_weight=z_weight)
    loss.reset(60)
    value, expected = loss(logits, targets), term(logits, targets, z_weight) / 60
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    grad, other = (torch.autograd.grad(x, logits)[0] for x in (value, expected))
    assert torch.allclose(grad, other, atol=1e-7)


def test_the_total_is_in_nats_without_the_penalty_until_it_is_reset():
    logits, targets = logits_and_targets()
    loss = Loss(z_weight=1.0)
    for _ in range(2):
        loss(logits, targets)
    assert float(loss.total) == pytest.approx(2 * float(term(logits, targets)), rel=1e-6)
    loss.reset(1)
    assert float(loss.total) == 0


def test_16_bit_logits_are_summed_in_fp32():
    logits, targets = logits_and_targets()
    value = Loss(z_weight=1e-2)(logits.bfloat16(), targets)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(term(logits.bfloat16().float(), targets, 1e-2)))


def test_large_logits_do_not_overflow():
    logits, targets = torch.full((1, 2, VOCAB), 1e4), torch.zeros(1, 2, dtype=torch.int64)
    value = Loss(z_weight=1e-12)(logits, targets)
    assert float(value) == pytest.approx(float(term(logits, targets, 1e-12)), rel=1e-4)


def test_further_predictions_are_of_further_tokens_and_weigh_less():
    logits, targets = logits_and_targets()
    first, second = drawn(*SHAPE, VOCAB, seed=7), drawn(*SHAPE, VOCAB, seed=8)
    loss = Loss()
    value = loss((logits, first, second), targets)
    ahead = term(first[:, :-1], targets[:, 1:]) + term(second[:, :-2], targets[:, 2:])
    expected = term(logits, targets) + PREDICTION_WEIGHT / 2 * ahead
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    assert float(loss.total) == pytest.approx(float(term(logits, targets)), rel=1e-6)


def part_of_the_vocabulary() -> tuple[float, float, torch.Tensor]:
    """Return this rank's loss, its total, and its part of the gradient."""
    logits, targets = logits_and_targets()
    rank, each = dist.get_rank(), VOCAB // dist.get_world_size()
    own = logits[..., rank * each : (rank + 1) * each].clone().requires_grad_()
    loss = Loss(z_weight=1e-2, group=dist.group.WORLD, first=rank * each)
    value = loss(own, targets)
    value.backward()
    assert own.grad is not None
    return float(value.detach()), float(loss.total), own.grad


@pytest.mark.parametrize("z_weight", [0.0, 1e-9])
def test_rows_that_fill_up_a_batch_are_left_out(z_weight):
    logits, targets = logits_and_targets()
    targets[1:] = LEFT_OUT
    loss = Loss(z_weight=z_weight)
    loss(logits, targets)
    assert float(loss.total) == pytest.approx(float(term(logits[:1], targets[:1])), rel=1e-6)


def test_a_vocabulary_over_two_ranks_is_the_whole(tmp_path):
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    expected = term(logits, targets, 1e-2)
    (grad,) = torch.autograd.grad(expected, logits)
    parts = run(part_of_the_vocabulary, 2, tmp_path)
    for value, total, _ in parts:
        assert value == pytest.approx(float(expected.detach()), rel=1e-6)
        assert total == pytest.approx(float(term(logits, targets).detach()), rel=1e-6)
    assert torch.allclose(torch.cat([part for *_, part in parts], dim=-1), grad, atol=1e-6)
