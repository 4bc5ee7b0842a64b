"""Attention against a softmax written out: heads, groups, windows, slopes, widths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.model.shapes import DENSE, NORMED, attend, causal, drawn, made

from crore.model.attention import Attention, Core
from crore.model.positions import Mask, Rotary, alibi_slopes


def masks():
    alibi = Mask(0, alibi=True)
    alibi.reset(alibi_slopes(4))
    both = Mask(4, alibi=True)
    both.reset(alibi_slopes(4))
    return {"causal": Mask(0, alibi=False), "window": Mask(4, alibi=False), "alibi": alibi,
            "alibi and window": both}  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kind", masks())
def test_the_core_is_softmax_attention(kind, groups):
    mask = masks()[kind]
    q, k, v = drawn(2, 11, 4, 8), drawn(2, 11, groups, 8, seed=3), drawn(2, 11, groups, 8, seed=4)
    bias = causal(11) if mask.causal_alone else mask.tensor(11, q)
    assert torch.allclose(Core(mask)(q, k, v).double(), attend(q, k, v, bias), atol=1e-5)


def test_values_may_be_narrower_than_keys():
    q, k, v = drawn(2, 7, 4, 12), drawn(2, 7, 4, 12, seed=3), drawn(2, 7, 4, 6, seed=4)
    out = Core(Mask(0, alibi=False))(q, k, v)
    assert out.shape == (2, 7, 4, 6)
    assert torch.allclose(out.double(), attend(q, k, v, causal(7)), atol=1e-5)


def test_nothing_after_a_token_moves_it():
    model = made(DENSE).eval()
    tokens = torch.arange(16)[None]
    later = tokens.clone()
    later[0, 10:] = 0
    with torch.no_grad():
        assert torch.equal(model(tokens)[0, :10], model(later)[0, :10])


def test_grouped_queries_are_heads_that_share_keys_and_values():
    grouped = made(DENSE).layers["0"].attention
    repeated = made(replace(DENSE, kv_heads=4)).layers["0"].attention
    weights = grouped.state_dict()
    for part in ("key", "value"):
        heads = weights[f"{part}.weight"].unflatten(0, (2, 8))
        weights[f"{part}.weight"] = heads.repeat_interleave(2, dim=0).flatten(0, 1)
    repeated.load_state_dict(weights)
    x = drawn(2, 16, 32)
    assert torch.allclose(grouped(x), repeated(x), atol=1e-6)


def test_norms_of_queries_and_keys_come_before_they_are_turned():
    attention = made(NORMED).layers["0"].attention
    with torch.no_grad():
        attention.query_norm.weight.copy_(drawn(8).exp())
    seen: dict[str, Any] = {}
    attention.core.forward = lambda q, k, v: seen.update(q=q, k=k) or v.repeat_interleave(2, dim=2)
    x = drawn(1, 16, 32)
    attention(x)
    q = attention.query(x).unflatten(-1, (4, 8))
    q = q * (q.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * attention.query_norm.weight
    assert torch.allclose(seen["q"], attention.rotary(q), atol=1e-5)


def test_biases_are_where_the_shape_says():
    rotary, mask = Rotary(8, 10_000.0), Mask(0, alibi=False)
    with torch.device("meta"):
        none = Attention(DENSE, rotary, mask)
        inputs = Attention(replace(DENSE, qkv_bias=True), rotary, mask)
        all_four = Attention(replace(DENSE, bias=True), rotary, mask)

    def biased(module):
        return {name.partition(".")[0] for name, _ in module.named_parameters() if "bias" in name}

    assert biased(none) == set()
    assert biased(inputs) == {"query", "key", "value"}
    assert biased(all_four) == {"query", "key", "value", "output"}
