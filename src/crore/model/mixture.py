"""Mixture of experts: token-choice top-k, dropless, balanced without an auxiliary loss.

T: tokens on this rank, E: hidden, X: experts, K: experts a token goes to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crore.catalog.types import ModelSpec
from crore.model.feed_forward import FeedForward
from crore.model.grouped import grouped_linear

TINY = 1e-20
"""Less than any sum of scores that is not zero in all of them."""
BALANCE_RATE = 1e-3
"""Step of an expert's bias (arXiv 2408.15664 §4: 0.001 works best)."""


class Experts(nn.Module):
    """The routed experts of a layer as stacked matrices [X, out, in]."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        x, e, w = spec.experts, spec.hidden, spec.moe_ffn
        self.gate = nn.Parameter(torch.empty(x, w, e)) if spec.gated_mlp else None
        self.up = nn.Parameter(torch.empty(x, w, e))
        self.down = nn.Parameter(torch.empty(x, e, w))
        self.up_bias = nn.Parameter(torch.empty(x, w)) if spec.bias else None
        self.gate_bias = nn.Parameter(torch.empty(x, w)) if spec.bias and spec.gated_mlp else None
        self.down_bias = nn.Parameter(torch.empty(x, e)) if spec.bias else None

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Map rows [T, E], sorted by expert with `counts` [X] each, to [T, E]."""
        inner = _linear(rows, self.up, self.up_bias, counts)
        if self.gate is not None:
            inner = F.silu(_linear(rows, self.gate, self.gate_bias, counts)) * inner
        else:
            inner = F.gelu(inner, approximate="tanh")
        return _linear(inner, self.down, self.down_bias, counts)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, counts: Tensor) -> Tensor:
    weight, bias = _local(weight), None if bias is None else _local(bias)
    out: Tensor = grouped_linear(x, weight, counts)
    if bias is None:
        return out
    return out + bias.repeat_interleave(counts, dim=0, output_size=x.shape[0])


def _local(weight: Tensor) -> Tensor:
    """Return this rank's experts: the weights may be spread over ranks from outside."""
    to_local = getattr(weight, "to_local", None)
    return weight if to_local is None else to_local()


class AddLoss(torch.autograd.Function):
    """Pass `x` on unchanged and let `loss` take part in the backward pass with weight 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        """Return `x`."""
        del ctx, loss
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of x, and 1 for the loss."""
        del ctx
        return grad, torch.ones((), device=grad.device)


class Arrange(torch.autograd.Function):
    """Rows `order` of `copies` copies of each row of `x`; `back` is the order that undoes it.

    Both ways gather, so that no buffer is zeroed and sums are made in one order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, back: Tensor, copies: int) -> Tensor:
        """Map [T, E] to [T · copies, E]."""
        ctx.save_for_backward(back)
        ctx.copies = copies
        return x[order if copies == 1 else order // copies]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        """Add up the gradients of a row's copies."""
        (back,) = ctx.saved_tensors
        grad = grad[back]
        if ctx.copies > 1:
            grad = grad.unflatten(0, (-1, ctx.copies)).sum(1)
        return grad, None, None, None


arrange: Callable[[Tensor, Tensor, Tensor, int], Tensor] = Arrange.apply
_add_loss: Callable[[Tensor, Tensor], Tensor] = AddLoss.apply


def inverse(order: Tensor) -> Tensor:
    """Return the permutation [T] that undoes another."""
    place = torch.arange(order.shape[0], device=order.device)
    return torch.empty_like(order).scatter_(0, order, place)


class Mixture(nn.Module):
    """Router, routed experts, shared experts.

    Scores are sigmoids; the top k of score plus bias are chosen and weighted by their scores alone,
    made to sum to one (arXiv 2412.19437 eq. 12-16). The bias follows the load between steps.
    Models that come with a softmax router (arXiv 2401.04088 §2.1) keep it, and no bias.
    """

    balance: Tensor
    load: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.topk, self.kind = spec.topk, spec.router
        self.router = nn.Linear(spec.hidden, spec.experts, bias=False)
        self.experts = Experts(spec)
        wide = spec.shared_ffn
        self.shared = (
            FeedForward(spec.hidden, wide, gated=spec.gated_mlp, bias=spec.bias) if wide else None
        )
        self.in_turn = False
        """Route tokens to the experts in turn instead of by score: for tokens without a meaning."""
        self.register_buffer("balance", torch.zeros(spec.experts))
        self.register_buffer("load", torch.zeros(spec.experts), persistent=False)
        self.z_scale = 0.0
        """Weight of the router's z-loss (arXiv 2202.08906 eq. 5) for each token, layers summed."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, S, E] to [B, S, E]."""
        flat = x.flatten(0, -2)
        logits = self.router(flat).float()
        weights, chosen = self._choose(logits)
        expert = chosen.flatten()
        order = expert.argsort(stable=True)
        counts = torch.zeros_like(self.load, dtype=torch.int64)
        counts = counts.index_add(0, expert, torch.ones_like(expert))
        if self.training:
            self.load.add_(counts)
        back = inverse(order)
        done = self.experts(arrange(flat, order, back, self.topk), counts)
        done = arrange(done, back, order, 1).unflatten(0, (-1, self.topk))
        out: Tensor = (done * weights.to(done.dtype)[..., None]).sum(1)
        if self.shared is not None:
            out = out + self.shared(flat)
        if self.z_scale and self.training:
            out = _add_loss(out, self.z_scale * logits.logsumexp(-1).square().sum())
        return out.view_as(x)

    def _choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and experts [T, K].

        The weight of one expert alone is its score: made to sum to one it would be 1 whatever the
        router says, and the router could not learn (arXiv 2101.03961 §2.1).
        """
        scores = logits.sigmoid() if self.kind == "sigmoid" else logits.softmax(-1)
        chosen = (scores.detach() + self.balance).topk(self.topk, dim=-1).indices
        if self.in_turn:
            turn = torch.arange(chosen.numel(), device=chosen.device) % scores.shape[-1]
            chosen = turn.view_as(chosen)
        weights = scores.gather(-1, chosen)
        if self.kind == "softmax-topk" or (self.kind == "sigmoid" and self.topk > 1):
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=TINY)
        return weights, chosen

    @torch.no_grad()
    def rebalance(self, rate: float = BALANCE_RATE) -> None:
        """Move each expert's bias against its load since the last call, and start counting anew.

        `load` must hold the counts of all ranks (arXiv 2408.15664 algorithm 1). Softmax routers
        have no bias to move.
        """
        if self.kind == "sigmoid":
            self.balance += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


def mixtures(model: nn.Module) -> list[Mixture]:
    """Return the expert layers of a model, in order."""
    return [module for module in model.modules() if isinstance(module, Mixture)]
