"""Multi-token prediction (DeepSeek-V3, arXiv 2412.19437 §2.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crore.catalog.types import ModelSpec
from crore.model.norms import make_norm


class PredictionModule(nn.Module):
    """Join a hidden state with the embedding of a later token, and run one more layer."""

    def __init__(self, spec: ModelSpec, block: nn.Module) -> None:
        super().__init__()
        self.hidden_norm = make_norm(spec.norm, spec.hidden, spec.norm_epsilon)
        self.token_norm = make_norm(spec.norm, spec.hidden, spec.norm_epsilon)
        self.join = nn.Linear(2 * spec.hidden, spec.hidden, bias=False)
        self.block = block

    def forward(self, hidden: Tensor, token: Tensor) -> Tensor:
        """Map hidden states and embeddings, [B, S, E] each, to [B, S, E]."""
        both = torch.cat([self.hidden_norm(hidden), self.token_norm(token)], dim=-1)
        out: Tensor = self.block(self.join(both))
        return out
