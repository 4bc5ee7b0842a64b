"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 §2.1).

B: sequences, S: tokens on this rank, E: hidden, H: heads, N/R/V: head widths without position, with
rotary position, and of values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crore.catalog.types import MLA, ModelSpec
from crore.model.attention import Core
from crore.model.positions import Mask, Rotary


class LatentAttention(nn.Module):
    """Keys and values are made from one compressed vector a token; positions ride apart."""

    def __init__(self, spec: ModelSpec, mla: MLA, rotary: Rotary, mask: Mask) -> None:
        super().__init__()
        self.sizes = mla
        per_head, epsilon = mla.qk_nope + mla.qk_rope, spec.norm_epsilon
        self.query_down = nn.Linear(spec.hidden, mla.q_lora, bias=False) if mla.q_lora else None
        self.query_norm = nn.RMSNorm(mla.q_lora, eps=epsilon) if mla.q_lora else None
        self.query = nn.Linear(mla.q_lora or spec.hidden, spec.heads * per_head, bias=False)
        self.latent = nn.Linear(spec.hidden, mla.kv_lora + mla.qk_rope, bias=False)
        self.latent_norm = nn.RMSNorm(mla.kv_lora, eps=epsilon)
        self.key_value = nn.Linear(mla.kv_lora, spec.heads * (mla.qk_nope + mla.v), bias=False)
        self.output = nn.Linear(spec.heads * mla.v, spec.hidden, bias=False)
        self.rotary = rotary
        self.shared: nn.Module = nn.Identity()
        """Where the one rotary key goes to all heads."""
        self.core = Core(mask)

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states [B, S, E] to [B, S, E]."""
        mla = self.sizes
        low = x
        if self.query_down is not None and self.query_norm is not None:
            low = self.query_norm(self.query_down(x))
        q = self.query(low).unflatten(-1, (-1, mla.qk_nope + mla.qk_rope))
        plain, turned = q.split([mla.qk_nope, mla.qk_rope], dim=-1)
        latent, shared = self.latent(x).split([mla.kv_lora, mla.qk_rope], dim=-1)
        up = self.key_value(self.latent_norm(latent)).unflatten(-1, (-1, mla.qk_nope + mla.v))
        key, value = up.split([mla.qk_nope, mla.v], dim=-1)
        turned, shared = self.rotary(turned), self.rotary(self.shared(shared).unsqueeze(2))
        q = torch.cat([plain, turned], dim=-1)
        k = torch.cat([key, shared.expand(-1, -1, key.shape[2], -1)], dim=-1)
        out: Tensor = self.output(self.core(q, k, value).flatten(-2))
        return out
