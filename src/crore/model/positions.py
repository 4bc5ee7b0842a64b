"""Positions: rotary tables and ALiBi slopes.

S: positions on this rank, D: rotary width, H: heads on this rank, K: keys of the whole sequence.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Tables of a rotary embedding (arXiv 2104.09864), half-split as in Llama: `cos, sin` [S, D].

    The tables are made by `reset`, for the positions this rank holds.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, base: float) -> None:
        super().__init__()
        self.width, self.base = width, base
        for name in ("cos", "sin"):
            self.register_buffer(name, torch.empty(0, width), persistent=False)

    def reset(self, positions: Tensor) -> None:
        """Make the tables of `positions` [S], in fp32 on their device."""
        half = torch.arange(0, self.width, 2, dtype=torch.float32, device=positions.device)
        angle = torch.outer(positions.float(), self.base ** (-half / self.width))
        both = torch.cat([angle, angle], dim=-1)
        self.cos, self.sin = both.cos(), both.sin()

    def forward(self, x: Tensor) -> Tensor:
        """Turn `x` [B, S, H, D] by its positions, in fp32 as the tables, whatever its type."""
        cos, sin = (table[: x.shape[1], None] for table in (self.cos, self.sin))
        first, second = x.chunk(2, dim=-1)
        return (x * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def alibi_slopes(heads: int) -> Tensor:
    """Return the slopes [heads] of ALiBi (arXiv 2108.12409), heads beyond a power of two included.

    A count that is no power of two takes the rest from every second slope of the next power
    (the paper's reference code).
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-4 * (i + 1) / power) for i in range(2 * power)][::2]
    return torch.tensor(slopes + between[: heads - power])


class Mask:
    """What a query may see: causal, at most `window` tokens back, with ALiBi's bias.

    One object serves every layer of its kind and keeps the last mask it made. `slopes` [H] are
    those of the heads that attention runs on this rank.
    """

    def __init__(self, window: int, *, alibi: bool) -> None:
        self.window, self.alibi = window, alibi
        self.slopes: Tensor | None = None
        self._kept: tuple[tuple[object, ...], Tensor] | None = None

    def reset(self, slopes: Tensor | None) -> None:
        """Set the slopes, and forget what was made with those before."""
        self.slopes, self._kept = slopes, None

    @property
    def causal_alone(self) -> bool:
        """True when nothing but causality is asked, which kernels know by a flag."""
        return not self.window and not self.alibi

    def tensor(self, keys: int, like: Tensor) -> Tensor:
        """Return the bias [H or 1, K, K] in the type of `like`; -inf where nothing is seen."""
        key = (keys, like.dtype, like.device)
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._make(keys, like))
        return self._kept[1]

    def _make(self, keys: int, like: Tensor) -> Tensor:
        place = torch.arange(keys, device=like.device)
        back = place[:, None] - place[None, :]
        hidden = back < 0
        if self.window:
            hidden = hidden | (back >= self.window)
        bias = torch.zeros(1, keys, keys, device=like.device)
        if self.slopes is not None:
            bias = -self.slopes.to(like.device)[:, None, None] * back
        return bias.masked_fill(hidden, -math.inf).to(like.dtype)
