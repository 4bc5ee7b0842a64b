"""Norms by the catalogue's names."""

from __future__ import annotations

from torch import nn

from crore.catalog.types import Norm


def make_norm(kind: Norm, width: int, epsilon: float) -> nn.Module:
    """Return RMSNorm (one vector) or LayerNorm (weight and bias) over the last dimension."""
    if kind == "rms":
        return nn.RMSNorm(width, eps=epsilon)
    return nn.LayerNorm(width, eps=epsilon)
