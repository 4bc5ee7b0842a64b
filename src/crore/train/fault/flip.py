"""A bit of a weight that flips when a file asks for it: silent corruption, on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from crore.train.fault.chaos import FLIP
from crore.train.local import local_part

BIT: Final = 30
"""Of an fp32 number: the exponent's highest, so that a small weight becomes a huge one."""


@torch.no_grad()
def flip_if_asked(folder: Path, tensors: Iterable[Tensor], step: int) -> bool:
    """Flip a bit of one weight, chosen by the step, where the file is there; say whether it was."""
    path = folder / FLIP
    if not path.exists():
        return False
    path.unlink(missing_ok=True)
    own = [local_part(tensor).view(-1) for tensor in tensors]
    largest = max(own, key=Tensor.numel)
    words = largest.view(torch.int32)
    words[step % words.numel()] ^= 1 << BIT
    return True
