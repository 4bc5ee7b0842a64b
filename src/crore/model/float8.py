"""Linear layers in 8 bits: scaled products forward and backward (arXiv 2209.05433).

One scale per tensor, set anew each time from its largest value; inputs and weights in E4M3,
gradients in E5M2. T: tokens, I/O: input and output width, multiples of 16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement

from crore.model.decoder import Decoder
from crore.model.private import scaled_product

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""Rows and columns that the 8-bit units load together."""


def quantize(x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return `x` in 8 bits and the scale that gives it back: `x ≈ x8 · scale`."""
    largest = x.detach().abs().amax().float().clamp(min=1e-12)
    scale = largest / torch.finfo(kind).max
    return x.to(torch.float32, copy=True).div_(scale).to(kind), scale


class ScaledLinear(torch.autograd.Function):
    """`x @ w.T` for x [T, I], w [O, I]; all three products in 8 bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        """Keep the 8-bit input and weight for the backward pass."""
        x8, x_scale = quantize(x, FORWARD)
        w8, w_scale = quantize(w, FORWARD)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        ctx.dtype = x.dtype
        return scaled_product(x8, w8.T, x_scale, w_scale, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the input [T, I] and of the weight [O, I]."""
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        g8, g_scale = quantize(grad, BACKWARD)
        columns = w8.T.contiguous().T
        of_x = scaled_product(g8, columns, g_scale, w_scale, ctx.dtype)
        rows = x8.T.contiguous().T
        of_w = scaled_product(g8.T.contiguous(), rows, g_scale, x_scale, ctx.dtype)
        return of_x, of_w


_scaled_linear: Callable[[Tensor, Tensor], Tensor] = ScaledLinear.apply


def float8_linear(x: Tensor, linear: nn.Linear) -> Tensor:
    """Run a linear layer in 8 bits on [..., I], its weight whole or cut over tensor-parallel ranks.

    Each rank's part has a scale of its own.
    """
    if not isinstance(x, DTensor) or not isinstance(linear.weight, DTensor):
        out = _flat(x, linear.weight)
    else:
        out = _sharded(x, linear.weight)
    return out if linear.bias is None else out + linear.bias


def _flat(x: Tensor, weight: Tensor) -> Tensor:
    flat = x.flatten(0, -2)
    out: Tensor = _scaled_linear(flat, weight.to(flat.dtype)).unflatten(0, x.shape[:-1])
    return out


def _sharded(x: DTensor, weight: DTensor) -> Tensor:
    """Outputs cut by rows of the weight, or partial sums over its columns.

    The gradient of an input that every rank holds whole is a sum over ranks in the first case.
    """
    mesh, placement = weight.device_mesh, weight.placements[0]
    rows, columns = placement.is_shard(0), placement.is_shard(1)
    local = x.to_local(grad_placements=[Partial()] if rows else x.placements)
    out = _flat(local, weight.to_local())
    after: Placement = Shard(out.ndim - 1) if rows else Partial() if columns else Replicate()
    return DTensor.from_local(out, mesh, [after], run_check=False)


def apply_float8(model: Decoder) -> None:
    """Make the linear layers of the blocks run in 8 bits, routers apart; tables stay as they are.

    A layer whose widths on a rank are no multiples of 16 stays in 16 bits, as the units ask.
    """
    for block in model.layers.values():
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear) and "router" not in name and _fits(module):
                module.forward = partial(float8_linear, linear=module)  # type: ignore[method-assign]


def _fits(linear: nn.Linear) -> bool:
    """Return whether what this rank holds of the weight suits the units."""
    weight = linear.weight
    shape = weight.to_local().shape if isinstance(weight, DTensor) else weight.shape
    return all(size % MULTIPLE == 0 for size in shape)
