"""Norms by the catalogue's names."""

from __future__ import annotations

import torch
from tests.model.shapes import drawn

from crore.model.norms import make_norm

EPSILON = 1e-3


def test_rms_divides_by_the_root_of_the_mean_square():
    norm, x = make_norm("rms", 8, EPSILON), drawn(3, 8)
    assert {name for name, _ in norm.named_parameters()} == {"weight"}
    assert torch.allclose(norm(x), x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt())


def test_layer_takes_away_the_mean_too():
    norm, x = make_norm("layer", 8, EPSILON), drawn(3, 8)
    assert {name for name, _ in norm.named_parameters()} == {"weight", "bias"}
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + EPSILON).sqrt()
    assert torch.allclose(norm(x), expected, atol=1e-6)
