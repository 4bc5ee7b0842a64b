"""Parameters and forward FLOPs of the module itself, counted on the meta device.

`cost.shape` has both in closed form; these are what the decoder's code does, so that neither can
drift from the other. S: tokens of a sequence, H: heads, D: head width of keys, V: of values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from crore.catalog.types import ModelSpec
from crore.model.attention import Core
from crore.model.decoder import Decoder, build_decoder
from crore.model.mixture import Experts


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What a model holds, and what one sequence of it takes forward."""

    parameters: int
    """All but multi-token prediction; a table that embedding and head share counts once."""
    mtp_parameters: int
    """Of multi-token-prediction modules, the shared tables apart."""
    forward_flops: int
    """Model FLOPs of one sequence."""
    seq_len: int
    """Tokens of it."""

    @property
    def forward_flops_per_token(self) -> float:
        """Model FLOPs of one token, on average over a sequence."""
        return self.forward_flops / self.seq_len


def count(spec: ModelSpec, seq_len: int, *, mtp: bool = False) -> Counts:
    """Build a model on the meta device and count it; InputError for a model that is not built."""
    model = build_decoder(spec, seq_len, mtp=mtp)
    whole, further = count_parameters(model)
    return Counts(
        parameters=whole, mtp_parameters=further, forward_flops=count_forward_flops(model),
        seq_len=seq_len,
    )  # fmt: skip


def count_parameters(model: Decoder) -> tuple[int, int]:
    """Return the parameters of a model, and of its multi-token-prediction modules."""
    further = sum(p.numel() for p in model.prediction.parameters())
    return sum(p.numel() for p in model.parameters()) - further, further


def count_forward_flops(model: Decoder) -> int:
    """Return the model FLOPs of one sequence through a model that is on the meta device.

    2 per multiply-add of every matrix product, and per element of a bias that is added; norms,
    activations, look-ups and the router's choice count 0. An attention core counts the pairs that
    its mask lets meet, as `cost.shape` does, not those a kernel computes.
    """
    tokens = torch.zeros(1, model.seq_len, dtype=torch.int64, device="meta")
    model.train().reset_positions(torch.arange(model.seq_len, device="meta"))
    counter = FlopCounterMode(display=False)
    with _apart(model) as apart, torch.no_grad(), counter:
        model(tokens)
    return counter.get_total_flops() + sum(apart)


def pairs(seq_len: int, window: int) -> int:
    """Return the (query, key) pairs of causal attention: query i meets `min(i, window)` keys."""
    seen = min(window or seq_len, seq_len)
    return seen * (seen + 1) // 2 + (seq_len - seen) * seen


@contextmanager
def _apart(model: nn.Module) -> Iterator[list[int]]:
    """Gather the FLOPs that are no matrix product to a dispatcher: cores and biases."""
    found: list[int] = []
    undo = []
    for module in model.modules():
        if isinstance(module, Core):
            module.forward = partial(_attend, module, found)  # type: ignore[method-assign]
        elif isinstance(module, nn.Linear) and module.bias is not None:
            undo.append(module.register_forward_hook(partial(_biased, found)))
        elif isinstance(module, Experts):
            undo.append(module.register_forward_hook(partial(_experts_biased, found)))
    try:
        yield found
    finally:
        for handle in undo:
            handle.remove()
        for module in model.modules():
            if isinstance(module, Core):
                del module.forward


def _attend(core: Core, found: list[int], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Count `q · k` and the weighted sum of values for queries [B, S, H, D]; return a stand-in."""
    sequences, length, heads, width = q.shape
    met = sequences * heads * pairs(k.shape[1], core.mask.window)
    found.append(2 * met * (width + v.shape[-1]))
    return q.new_empty(sequences, length, heads, v.shape[-1])


def _biased(found: list[int], module: nn.Module, inputs: Any, out: Tensor) -> None:
    del module, inputs
    found.append(2 * out.numel())


def _experts_biased(found: list[int], module: Experts, inputs: Any, out: Tensor) -> None:
    del out
    biases = (module.gate_bias, module.up_bias, module.down_bias)
    found.extend(2 * inputs[0].shape[0] * b.shape[-1] for b in biases if b is not None)
