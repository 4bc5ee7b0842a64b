"""Softmax attention with grouped queries.

B: sequences, S: tokens on this rank, E: hidden, H: query heads, G: key-value heads, D: head width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from crore.catalog.types import ModelSpec
from crore.model.positions import Mask, Rotary


class Core(nn.Module):
    """The attention core: queries [B, S, H, D], keys and values [B, S, G, D] to [B, S, H, D].

    Values may be narrower than queries and keys, and so is then what comes out.
    It has no weights. Context parallelism wraps it, because only here do tokens of a sequence meet.
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend over the whole sequence it is given."""
        width = v.shape[-1]
        q, k, v = (x.transpose(1, 2) for x in (q, k, as_wide(v, q.shape[-1])))
        grouped = q.shape[1] != k.shape[1]
        if self.mask.causal_alone:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        else:
            bias = self.mask.tensor(k.shape[2], q)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=grouped)
        return as_narrow(out.transpose(1, 2), width)


def as_wide(v: Tensor, width: int) -> Tensor:
    """Return values with zeros behind them, where they are narrower: kernels ask for one width."""
    return v if v.shape[-1] >= width else F.pad(v, (0, width - v.shape[-1]))


def as_narrow(out: Tensor, width: int) -> Tensor:
    """Return the first numbers of each head, without what `as_wide` put behind them."""
    return out if out.shape[-1] == width else out[..., :width]


class Attention(nn.Module):
    """Multi-head or grouped-query attention (arXiv 2305.13245)."""

    def __init__(self, spec: ModelSpec, rotary: Rotary | None, mask: Mask) -> None:
        super().__init__()
        width, bias = spec.head_dim, spec.bias or spec.qkv_bias
        self.head_dim = width
        self.query = nn.Linear(spec.hidden, spec.heads * width, bias=bias)
        self.key = nn.Linear(spec.hidden, spec.kv_heads * width, bias=bias)
        self.value = nn.Linear(spec.hidden, spec.kv_heads * width, bias=bias)
        self.output = nn.Linear(spec.heads * width, spec.hidden, bias=spec.bias)
        epsilon = spec.norm_epsilon
        self.query_norm = nn.RMSNorm(width, eps=epsilon) if spec.qk_norm else None
        self.key_norm = nn.RMSNorm(width, eps=epsilon) if spec.qk_norm else None
        self.rotary = rotary
        self.core = Core(mask)

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states [B, S, E] to [B, S, E]."""
        q, k, v = (
            part(x).unflatten(-1, (-1, self.head_dim))
            for part in (self.query, self.key, self.value)
        )
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        out: Tensor = self.output(self.core(q, k, v).flatten(-2))
        return out
