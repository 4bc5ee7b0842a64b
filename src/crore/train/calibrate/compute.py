"""What one process computes: products, passes over memory, attention, the optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from crore.catalog.calibration import Attention, Curve, Passes, Products
from crore.train.calibrate.clock import Clock

Grid = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
GRIDS: Final[dict[tuple[str, str], Grid]] = {
    ("cpu", "fp32"): ((256, 2048), (128, 512, 2048, 4096), (128, 512, 2048)),
    ("cpu", "bf16"): ((256, 1024), (256, 1024), (256, 1024)),
    ("cuda", "fp32"): ((512, 4096, 16384), (512, 2048, 8192), (512, 2048, 8192)),
    ("cuda", "bf16"): ((512, 4096, 16384), (512, 2048, 8192, 32768), (512, 2048, 8192)),
}
"""(m, n, k) of a small machine's layers and of a card's."""
SEQUENCES: Final = {
    ("cpu", "fp32"): (128, 256, 512, 1024, 2048), ("cpu", "bf16"): (256, 1024),
    ("cuda", "fp32"): (256, 1024, 4096), ("cuda", "bf16"): (256, 1024, 4096, 16384),
}  # fmt: skip
HEAD_DIMS: Final = {"cpu": (32, 64, 128), "cuda": (64, 128)}
HEAD_ROWS: Final = {"cpu": 8192, "cuda": 262_144}
"""Heads x sequence length of one attention measurement."""
TENSOR_BYTES: Final = tuple(2**e for e in range(14, 27, 2))
"""16 KiB to 64 MiB: from the first cache to memory, past the size from which the C library takes
fresh pages for every tensor."""
POOL_BYTES: Final = {"cpu": 2**27, "cuda": 2**32}
"""Tensors together from which none is left in a cache when its turn comes again."""
MOST_CUTS: Final = 256
WEIGHTS: Final = {"cpu": (2**17, 2**20, 2**23), "cuda": (2**20, 2**24, 2**27)}
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}


def formats(device: str) -> tuple[str, ...]:
    """Return the formats that the device multiplies in itself."""
    if device == "cuda":
        return ("fp32", "bf16") if torch.cuda.is_bf16_supported() else ("fp32",)
    able = torch.cpu.get_capabilities()
    return ("fp32", "bf16") if able.get("avx512_bf16") or able.get("amx_bf16") else ("fp32",)


def measure_products(clock: Clock, precision: str) -> Products:
    """Return seconds of a linear layer's three products over the grid.

    As in a step, the left operand was made a moment ago and the right one, a weight or a kept
    activation, comes from memory.
    """
    m, n, k = GRIDS[clock.device, precision]
    pool = torch.rand(POOL_BYTES[clock.device] // 4, device=clock.device).to(DTYPES[precision])
    made: dict[str, list[float]] = {"forward_s": [], "input_s": [], "weight_s": []}
    for rows, outputs, inputs in itertools.product(m, n, k):
        x, y = _cut(pool, rows, inputs)[-1], _cut(pool, rows, outputs)[-1]
        kept, weights = _cut(pool, rows, inputs), _cut(pool, outputs, inputs)
        calls = {
            "forward_s": [_product(x, w.t()) for w in weights],
            "input_s": [_product(y, w) for w in weights],
            "weight_s": [_product(y.t(), a) for a in kept],
        }
        for name, each in calls.items():
            made[name].append(clock.one_by_one(each))
    axes = {name: tuple(map(float, axis)) for name, axis in zip("mnk", (m, n, k), strict=True)}
    return Products(**axes, **{name: tuple(values) for name, values in made.items()})


def _product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    return lambda: a @ b


def _cut(pool: Tensor, rows: int, columns: int) -> Sequence[Tensor]:
    """Return as many matrices as the pool holds, at most MOST_CUTS, in their order of memory."""
    size = rows * columns
    count = min(max(pool.numel() // size, 1), MOST_CUTS)
    return pool[: count * size].view(count, rows, columns).unbind()


def measure_passes(clock: Clock, kind: str) -> Passes:
    """Return seconds of one element-wise kernel by the bytes it moves.

    `map` multiplies two tensors, `exp` takes the softmax of one; each makes a new tensor.
    """
    tensors, call = (3, torch.mul) if kind == "map" else (2, _softmax)
    hot, cold = [], []
    for size in TENSOR_BYTES:
        pool = _pool(clock.device, size, tensors - 1)
        calls = [_pass(call, inputs) for inputs in pool]
        hot.append(clock.seconds(calls[0]))
        cold.append(clock.rotating(calls))
    return Passes(size=tuple(map(float, TENSOR_BYTES)), hot_s=tuple(hot), cold_s=tuple(cold))


def _softmax(x: Tensor) -> Tensor:
    return F.log_softmax(x, dim=-1)


def _pass(call: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    return lambda: call(*inputs)


def _pool(device: str, size: int, inputs: int) -> list[tuple[Tensor, ...]]:
    """Return groups of tensors that fill the caches several times over, or four large ones."""
    groups = max(POOL_BYTES[device] // (size * inputs), 2)
    # One row over and over: drawing as many numbers would take longer than what is measured.
    row = torch.rand(256, device=device)
    rows = row.expand(groups, inputs, size // 1024, 256).contiguous()
    return [tuple(group) for group in rows]


def measure_attention(clock: Clock, precision: str) -> Attention:
    """Return seconds per head and sequence of causal attention, forward and backward."""
    seq, widths = SEQUENCES[clock.device, precision], HEAD_DIMS[clock.device]
    forward, backward = [], []
    for length, width in itertools.product(seq, widths):
        heads = max(HEAD_ROWS[clock.device] // length, 1)
        ahead_s, back_s = _attention_s(clock, heads, length, width, DTYPES[precision])
        forward.append(ahead_s / heads)
        backward.append(back_s / heads)
    return Attention(
        seq=tuple(map(float, seq)), head_dim=tuple(map(float, widths)),
        forward_s=tuple(forward), backward_s=tuple(backward),
    )  # fmt: skip


def _attention_s(
    clock: Clock, heads: int, length: int, width: int, dtype: torch.dtype
) -> tuple[float, float]:
    """Return seconds forward and backward, tensors lying as a decoder's do: [B, S, H, D]."""
    q, k, v = (
        torch.randn(1, length, heads, width, device=clock.device, dtype=dtype)
        .transpose(1, 2).requires_grad_()
        for _ in range(3)
    )  # fmt: skip

    def ahead() -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    out = ahead()
    grad = torch.randn_like(out)

    def back() -> Any:
        return torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)

    return clock.seconds(ahead), clock.seconds(back)


def measure_optimizer(clock: Clock) -> Curve:
    """Return seconds of one fused AdamW update by the number of weights."""
    seconds = []
    for count in WEIGHTS[clock.device]:
        weights = torch.randn(count, device=clock.device, requires_grad=True)
        weights.grad = torch.randn_like(weights)
        optimizer = torch.optim.AdamW([weights], fused=True)
        seconds.append(clock.seconds(optimizer.step))
    return Curve(size=tuple(map(float, WEIGHTS[clock.device])), seconds=tuple(seconds))
