"""Weights from a seed, shard by shard: a value depends on its place in the whole model alone.

Every element is a hash of (seed, parameter name, flat index), so any rank makes its part of any
layout without the rest, and the weights are the same bit for bit under every layout.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from crore.model.decoder import Decoder
from crore.model.private import local_offset

EMBEDDING_STD = 0.02
TIED = "embedding.weight"
"""The table that a tied head shares."""
_MASK = (1 << 63) - 1
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of signed 64-bit numbers."""
    return (x >> bits) & (_MASK >> (bits - 1))


def mixed(x: Tensor) -> Tensor:
    """SplitMix64's output function (Steele et al., OOPSLA 2014), on int64 that wraps around."""
    x = (x ^ _shift(x, 30)) * _MIX[0]
    x = (x ^ _shift(x, 27)) * _MIX[1]
    return x ^ _shift(x, 31)


def bell(index: Tensor, key: int) -> Tensor:
    """Return fp32 numbers of mean 0 and deviation 1, one for each index.

    The sum of twelve uniform 15-bit numbers (Irwin-Hall: bell-shaped, within ±6), added as whole
    numbers: no rounding differs between devices or shard sizes.
    """
    total = torch.zeros_like(index)
    for draw in range(3):
        word = mixed(index * 3 + draw + key + _GOLDEN)
        for part in range(4):
            total = total + (_shift(word, 16 * part + 1) & 0x7FFF)
    # Twelve uniform numbers below 2^15: variance 12 · (2^30 - 1) / 12.
    middle = 6 * 0x7FFF
    return (total - middle).to(torch.float64).div(math.sqrt(2**30 - 1)).to(torch.float32)


def key_of(seed: int, name: str) -> int:
    """Return the 62-bit key of a parameter."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def flat_indices(shape: Sequence[int], offset: Sequence[int], whole: Sequence[int]) -> Tensor:
    """Return the flat index in `whole` of every element of a block `shape` at `offset`."""
    index = torch.zeros((), dtype=torch.int64)
    for size, start, full in zip(shape, offset, whole, strict=True):
        index = index.unsqueeze(-1) * full + torch.arange(start, start + size)
    return index


ELEMENTS_AT_ONCE = 1 << 22
"""Elements made at a time, so that the indices of a large table take little memory."""


@torch.no_grad()
def fill(parameter: Tensor, name: str, seed: int, std: float) -> None:
    """Set a parameter's local part: its norm to 1 or bias to 0 where `std` is 0 or negative.

    `std` 0 means zeros, -1 ones.
    """
    local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    if std <= 0:
        local.fill_(-std)
        return
    offset = local_offset(parameter)
    whole, key = tuple(parameter.shape), key_of(seed, name)
    rows = max(ELEMENTS_AT_ONCE // max(local[:1].numel(), 1), 1)
    for first in range(0, local.shape[0], rows):
        part = local[first : first + rows]
        start = (offset[0] + first, *offset[1:])
        index = flat_indices(part.shape, start, whole).to(local.device)
        part.copy_(bell(index, key) * std)


def deviation(name: str, shape: Sequence[int], layers: int) -> float:
    """Return the standard deviation a parameter starts with; 0 for zeros, -1 for ones.

    Matrices `1/sqrt(3·inputs)` (LeCun, uniform's variance), outputs of a sub-layer smaller by
    `sqrt(2·layers)` (GPT-2), tables 0.02, biases 0, norms 1.
    """
    leaf = name.split(".")[-2] if "." in name else name
    if name.endswith("bias"):
        return 0.0
    if "norm" in leaf:
        return -1.0
    if leaf in ("embedding", "positions", "head"):
        return EMBEDDING_STD
    std = 1 / math.sqrt(3 * shape[-1])
    residual = leaf in ("output", "down") or name.endswith("experts.down")
    return std / math.sqrt(2 * layers) if residual else std


def initialise(model: Decoder, seed: int) -> None:
    """Set every parameter and buffer of a materialised part of a model."""
    for name, parameter in model.named_parameters():
        std = deviation(name, parameter.shape, model.spec.layers)
        fill(parameter, canonical(name, model), seed, std)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name in ("balance", "load"):
                nn.init.zeros_(buffer)


def canonical(name: str, model: Decoder) -> str:
    """Return a parameter's name in the whole model: a tied head goes by the embedding's."""
    if name == "head.weight" and model.spec.tied_embeddings:
        return TIED
    return name
