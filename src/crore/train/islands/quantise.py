"""Outer gradients as bytes: fp32, bf16, or small integers with a scale for each block.

Below 16 bits a block is a record of its own: the integers, then their step as bfloat16. So the
records of any whole blocks are themselves packed values, and a part is sent without repacking.
n: values, K: blocks.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from crore.cost.islands import BLOCK_VALUES, SCALE_BITS

SCALE_BYTES: Final = SCALE_BITS // 8
SLAB_VALUES: Final = BLOCK_VALUES * 8192
"""Values packed at a time: what is needed on the way stays in a cache, however many there are."""
LARGEST: Final = {8: 127, 4: 7}
"""The largest integer of so many bits; as far below zero as above, so that no value is favoured."""
LEAST_STEP: Final = torch.finfo(torch.float32).tiny
"""Steps below it would lose their precision; blocks of so small values become zeros."""
PLAIN: Final = {32: torch.float32, 16: torch.bfloat16}


def unit_values(bits: int) -> int:
    """Return the values that are packed together: parts must be whole numbers of them."""
    return 1 if bits in PLAIN else BLOCK_VALUES


def packed_bytes(values: int, bits: int) -> int:
    """Return the bytes of so many packed values; a block that is not full counts whole."""
    if bits in PLAIN:
        return values * bits // 8
    return -(-values // BLOCK_VALUES) * (BLOCK_VALUES * bits // 8 + SCALE_BYTES)


@torch.no_grad()
def pack(values: Tensor, bits: int) -> Tensor:
    """Return fp32 values [n] as uint8 [`packed_bytes(n, bits)`], the same for the same values.

    Rounded to nearest. A block with a value that is not finite is unpacked as NaN throughout.
    """
    assert (values.dtype, values.ndim) == (torch.float32, 1), "fp32 vectors are packed"
    if bits in PLAIN:
        plain = values.new_empty(values.shape, dtype=PLAIN[bits])
        return plain.copy_(values).view(torch.uint8)
    packed = values.new_empty(packed_bytes(values.numel(), bits), dtype=torch.uint8)
    records = packed.view(-1, BLOCK_VALUES * bits // 8 + SCALE_BYTES)
    rows = SLAB_VALUES // BLOCK_VALUES
    for slab, into in zip(values.split(SLAB_VALUES), records.split(rows), strict=True):
        missing = -slab.numel() % BLOCK_VALUES
        whole = torch.nn.functional.pad(slab, (0, missing)) if missing else slab
        _pack_blocks(whole.view(-1, BLOCK_VALUES), bits, into)
    return packed


def _pack_blocks(blocks: Tensor, bits: int, into: Tensor) -> None:
    """Write blocks [K, values] as records [K, bytes]."""
    largest = LARGEST[bits]
    # Rounding the step moves the largest value by less than half a step: nothing is clipped.
    step = (blocks.abs().amax(1) / largest).clamp_(min=LEAST_STEP).to(torch.bfloat16)
    step.masked_fill_(~step.isfinite(), torch.nan)
    whole = (blocks / step[:, None].float()).round_().nan_to_num_().to(torch.int8)
    if bits == 4:
        low, high = (whole + 8).view(torch.uint8).view(-1, BLOCK_VALUES // 2, 2).unbind(-1)
        codes = low | high << 4
    else:
        codes = whole.view(torch.uint8)
    into[:, :-SCALE_BYTES] = codes
    into[:, -SCALE_BYTES:] = step[:, None].view(torch.uint8)


@torch.no_grad()
def unpack(packed: Tensor, values: int, bits: int) -> Tensor:
    """Return the fp32 values [n] that `pack` made bytes of; for 32 bits they share the storage."""
    assert packed.numel() == packed_bytes(values, bits), "the bytes are not those of the values"
    if not values:  # a part without bytes may begin anywhere, and then has no view of other types
        return torch.empty(0, device=packed.device)
    if bits in PLAIN:
        return packed.view(PLAIN[bits]).float()
    records = packed.view(-1, BLOCK_VALUES * bits // 8 + SCALE_BYTES)
    found = torch.empty(len(records), BLOCK_VALUES, device=packed.device)
    rows = SLAB_VALUES // BLOCK_VALUES
    for slab, into in zip(records.split(rows), found.split(rows), strict=True):
        _unpack_blocks(slab, bits, into)
    return found.view(-1)[:values]


def _unpack_blocks(records: Tensor, bits: int, into: Tensor) -> None:
    """Write records [K, bytes] as blocks [K, values]."""
    codes = records[:, :-SCALE_BYTES]
    step = records[:, -SCALE_BYTES:].contiguous().view(torch.bfloat16).float()
    if bits == 4:
        pairs = into.view(-1, BLOCK_VALUES // 2, 2)
        pairs[..., 0], pairs[..., 1] = codes & 15, codes >> 4
        into -= 8
    else:
        into.copy_(codes.contiguous().view(torch.int8))
    into *= step
