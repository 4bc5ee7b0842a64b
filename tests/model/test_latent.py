"""Multi-head latent attention against the paper's equations written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.model.shapes import LATENT, attend, causal, drawn, made

assert LATENT.mla is not None
DIRECT = replace(LATENT, mla=replace(LATENT.mla, q_lora=0))


def rms(x, weight):
    return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def reference(attention, mla, x):
    """Equations 37-47 of arXiv 2405.04434, head by head."""
    low = x
    if mla.q_lora:
        low = rms(x @ attention.query_down.weight.T, attention.query_norm.weight)
    per_head = mla.qk_nope + mla.qk_rope
    q = low @ attention.query.weight.T
    down = x @ attention.latent.weight.T
    latent, shared = down[..., : mla.kv_lora], down[..., mla.kv_lora :]
    up = rms(latent, attention.latent_norm.weight) @ attention.key_value.weight.T
    one_key = attention.rotary(shared[:, :, None])
    heads = []
    for head in range(4):
        own = q[..., head * per_head : (head + 1) * per_head]
        turned = attention.rotary(own[:, :, None, mla.qk_nope :])
        query = torch.cat([own[:, :, None, : mla.qk_nope], turned], dim=-1)
        wide = mla.qk_nope + mla.v
        mine = up[..., head * wide : (head + 1) * wide]
        key = torch.cat([mine[:, :, None, : mla.qk_nope], one_key], dim=-1)
        value = mine[:, :, None, mla.qk_nope :]
        # The scale is that of whole keys: 1/√(nope + rope).
        heads.append(attend(query, key, value, causal(x.shape[1]))[:, :, 0])
    return torch.cat(heads, dim=-1).float() @ attention.output.weight.T


@pytest.mark.parametrize("spec", [LATENT, DIRECT], ids=["low-rank queries", "direct queries"])
def test_latent_attention_is_the_papers(spec):
    attention = made(spec).layers["0"].attention
    with torch.no_grad():
        attention.latent_norm.weight.copy_(drawn(16, seed=5).exp())
    x = drawn(2, 9, 32)
    assert torch.allclose(attention(x), reference(attention, spec.mla, x), atol=1e-5)


def test_all_weights_take_part():
    model = made(LATENT)
    model(torch.arange(16)[None]).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
