"""A rank's own part of parameters and gradients, as plain tensors, and back.

DTensor's dispatch costs more than a small tensor's arithmetic, and one fused call takes no DTensors
of different meshes; element by element there is nothing it would add.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate


def local_part(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor; it shares the storage, and may have no rows."""
    if not isinstance(tensor, DTensor):
        return tensor
    with torch.no_grad():  # else the part would be a new node of the graph
        return tensor.to_local()


@torch.no_grad()
def place_like(part: Tensor, parameter: Tensor) -> Tensor:
    """Return `part`, shaped as this rank's part of `parameter`, placed as the parameter is.

    A DTensor for a DTensor; the storage stays that of `part`.
    """
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


@torch.no_grad()
def whole(tensor: Tensor, kept: Collection[int] = ()) -> Tensor:
    """Return a tensor gathered from all ranks, which must all call it.

    Along the axes of its mesh numbered in `kept` it stays cut as it is. One axis at a time, from
    the first: FSDP, which cuts what tensor parallelism left. All at once is as many messages, and
    torch logs a warning about that.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    placements = list(tensor.placements)
    for axis in sorted(set(range(len(placements))) - set(kept)):
        placements[axis] = Replicate()
        tensor = tensor.redistribute(placements=placements)
    return local_part(tensor)


def shards(tensor: Tensor) -> int:
    """Return how many different parts a tensor is cut into, over all axes of its mesh."""
    if not isinstance(tensor, DTensor):
        return 1
    sizes = zip(tensor.device_mesh.shape, tensor.placements, strict=True)
    return math.prod(size for size, placement in sizes if not placement.is_replicate())
