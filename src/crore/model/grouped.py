"""Products of many experts, each with its own rows: one operation with a shape known beforehand.

T: rows sorted by expert, X: experts on this rank, I/O: input and output width. How many rows an
expert has is data, so the loop over experts is hidden in an operator: tracing without data sees
`[T, I] -> [T, O]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula


def fits_kernel(x: Tensor, weight: Tensor) -> bool:
    """Return whether torch's grouped kernel takes the operands: bf16, rows of whole 16 bytes."""
    return x.dtype == torch.bfloat16 and all(n % 8 == 0 for n in (x.shape[1], *weight.shape[1:]))


@torch.library.custom_op("crore::grouped_linear", mutates_args=())
def grouped_linear(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return `x_e @ weight[e].T` for the rows [T, I] of each expert; weight [X, O, I], counts [X].

    On CUDA in bf16 one grouped kernel, where it takes the widths; elsewhere one product per expert.
    """
    if x.is_cuda and fits_kernel(x, weight):
        ends = counts.cumsum(0).to(torch.int32)
        return F.grouped_mm(x, weight.transpose(-2, -1), offs=ends)
    out = x.new_empty(x.shape[0], weight.shape[1])
    for rows, matrix in zip(_spans(counts), weight, strict=True):
        torch.mm(x[rows], matrix.T, out=out[rows])
    return out


@grouped_linear.register_fake
def _(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    del counts
    return x.new_empty(x.shape[0], weight.shape[1])


@torch.library.custom_op("crore::grouped_weight_gradient", mutates_args=())
def grouped_weight_gradient(grad: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    """Return `grad_e.T @ x_e` [X, O, I] of each expert's rows; zero for an expert without any."""
    out = x.new_empty(counts.shape[0], grad.shape[1], x.shape[1])
    for rows, matrix in zip(_spans(counts), out, strict=True):
        torch.mm(grad[rows].T, x[rows], out=matrix)
    return out


@grouped_weight_gradient.register_fake
def _(grad: Tensor, x: Tensor, counts: Tensor) -> Tensor:
    return x.new_empty(counts.shape[0], grad.shape[1], x.shape[1])


@register_flop_formula(torch.ops.crore.grouped_linear)
def _(x: Sequence[int], weight: Sequence[int], *shapes: Any, **more: Any) -> int:
    del shapes, more
    return 2 * x[0] * weight[1] * weight[2]


@register_flop_formula(torch.ops.crore.grouped_weight_gradient)
def _(grad: Sequence[int], x: Sequence[int], *shapes: Any, **more: Any) -> int:
    del shapes, more
    return 2 * grad[0] * grad[1] * x[1]


def _spans(counts: Tensor) -> list[slice]:
    """Return each expert's rows."""
    ends = counts.cumsum(0).tolist()
    return [slice(end - count, end) for end, count in zip(ends, counts.tolist(), strict=True)]


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    del output
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    x, weight, counts = ctx.saved_tensors
    grad = grad.contiguous()
    rows: Tensor = grouped_linear(grad, weight.transpose(-2, -1).contiguous(), counts)
    matrix: Tensor = grouped_weight_gradient(grad, x, counts)
    return rows, matrix, None


grouped_linear.register_autograd(_backward, setup_context=_save)
