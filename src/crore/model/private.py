"""Every private API of torch that crore uses, in one place, with the versions it was tested on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

TESTED: tuple[str, ...] = ("2.13",)


def is_tested() -> bool:
    """Return whether the running torch is one these calls were tested on."""
    return ".".join(torch.__version__.split(".")[:2]) in TESTED


def local_offset(tensor: Tensor) -> Sequence[int]:
    """Return where this rank's part of a tensor begins in the whole, one entry per dimension."""
    if not isinstance(tensor, DTensor):
        return (0,) * tensor.dim()
    _, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return offset
