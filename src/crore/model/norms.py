"""Norms by the catalogue's names."""

from __future__ import annotations

from torch import nn

from crore.catalog.types import Norm

EPSILON = 1e-5


def make_norm(kind: Norm, width: int) -> nn.Module:
    """Return RMSNorm (one vector) or LayerNorm (weight and bias) over the last dimension."""
    if kind == "rms":
        return nn.RMSNorm(width, eps=EPSILON)
    return nn.LayerNorm(width, eps=EPSILON)
