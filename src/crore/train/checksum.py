"""A number that changes with any bit of the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from crore.train.local import local_part

MODULUS = 2**33 - 9  # a prime beyond every word
"""Sums of such numbers over a million ranks are exact in float64."""
_WORDS = {8: torch.int32, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


def checksum(tensors: Iterable[Tensor]) -> int:
    """Return a sum over the bits of what this rank holds, in [0, MODULUS).

    It differs when one bit, or any number of bits of one word, differs; it is blind to words that
    change places within a tensor. Reads each tensor once.
    """
    total = 0
    for place, tensor in enumerate(tensors, start=1):
        own = local_part(tensor.detach())
        words = own.reshape(-1).view(_WORDS[own.element_size()])
        total = (total + place * (int(words.sum(dtype=torch.int64)) % MODULUS)) % MODULUS
    return total


def whole_checksum(tensors: Iterable[Tensor], group: dist.ProcessGroup | None = None) -> int:
    """Return the same over all ranks of this world, which must all call it; None: its own group."""
    total = torch.tensor(checksum(tensors), dtype=torch.int64)
    if dist.is_initialized():
        dist.all_reduce(total, group=group)
    return int(total) % MODULUS
