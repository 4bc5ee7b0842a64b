"""The dense feed-forward: gated (SwiGLU, arXiv 2002.05202) or plain GELU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """`down(silu(gate(x)) · up(x))`, or `down(gelu(up(x)))` where it is not gated."""

    def __init__(self, hidden: int, width: int, *, gated: bool, bias: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, width, bias=bias) if gated else None
        self.up = nn.Linear(hidden, width, bias=bias)
        self.down = nn.Linear(width, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., hidden] to [..., hidden]."""
        if self.gate is not None:
            inner = F.silu(self.gate(x)) * self.up(x)
        else:
            inner = F.gelu(self.up(x), approximate="tanh")
        out: Tensor = self.down(inner)
        return out
