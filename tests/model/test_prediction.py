"""Multi-token prediction: modules, what each is given, what each learns from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.model.shapes import FURTHER, MIXTURE, made, tokens

from crore.model import build_decoder
from crore.model.loss import Loss
from crore.model.mixture import Mixture


@pytest.mark.parametrize("modules", [0, 1, 3])
def test_there_are_as_many_modules_as_the_shape_says_and_none_unless_asked(modules):
    spec = replace(FURTHER, mtp_layers=modules)
    assert len(build_decoder(spec, 16, mtp=True).prediction) == modules
    assert len(build_decoder(spec, 16).prediction) == 0


def test_a_module_has_a_layer_of_the_last_kind():
    model = build_decoder(replace(MIXTURE, mtp_layers=1), 16, mtp=True)
    module: torch.nn.Module = model.prediction[0]
    assert isinstance(module.get_submodule("block.feed_forward"), Mixture)


def test_each_module_is_given_the_state_before_it_and_a_later_token():
    model, x = made(FURTHER, mtp=True), tokens(FURTHER)
    given = []
    for module in model.prediction:
        module.register_forward_hook(lambda _, inputs, out: given.append((*inputs, out)))
    logits = model(x)
    (_, token, first), (before, later, second) = given
    table = model.embedding.weight
    assert torch.equal(token[:, :-1], table[x[:, 1:]])
    assert torch.equal(later[:, :-2], table[x[:, 2:]])
    assert before is first
    assert torch.equal(logits[2], model.head(model.norm(second)))
    assert [part.shape for part in logits] == [(2, 16, 64)] * 3


def test_no_token_that_is_to_be_predicted_is_seen():
    model, x = made(FURTHER, mtp=True), tokens(FURTHER, 1)
    other = x.clone()
    other[0, 9] = (other[0, 9] + 1) % 64
    with torch.no_grad():
        pairs = list(zip(model(x), model(other), strict=True))
    for depth, (one, another) in enumerate(pairs):
        moved = (one != another)[0].any(-1).nonzero().flatten().tolist()
        # Position t predicts token t + depth + 1 and is given those up to t + depth.
        assert moved == list(range(9 - depth, 16))


def test_gradients_reach_every_module_and_the_trunk():
    model, samples = made(FURTHER, mtp=True), tokens(FURTHER, 2, 17)
    Loss()(model(samples[:, :-1]), samples[:, 1:]).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
