"""Cross-entropy and z-loss, also where every rank holds a part of the vocabulary.

T: tokens on this rank, V: entries of the vocabulary on this rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed import ProcessGroup

PREDICTION_WEIGHT = 0.3
"""Weight of multi-token prediction (arXiv 2412.19437 §4.2: 0.3 for most of the run)."""
LEFT_OUT = -1
"""Target of rows that only fill up the last batch of an evaluation."""


class SplitVocabulary(torch.autograd.Function):
    """Cross-entropy and log-sum-exp, [T] each, of logits [T, V] spread over a group by V."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, first: int, group: ProcessGroup | None
    ) -> tuple[Tensor, Tensor]:
        """`target` [T] counts in the whole vocabulary, `first` is where this part begins."""
        highest = logits.amax(-1)
        if group is not None:
            dist.all_reduce(highest, dist.ReduceOp.MAX, group)
        shares = logits - highest[:, None]
        place = target - first
        here = (place >= 0) & (place < logits.shape[-1])
        place = place.clamp(0, logits.shape[-1] - 1)
        picked = shares.gather(-1, place[:, None])[:, 0] * here
        shares.exp_()
        both = torch.stack([shares.sum(-1), picked])
        if group is not None:
            dist.all_reduce(both, group=group)
        total, picked = both[0], both[1]
        shares.div_(total[:, None])
        ctx.save_for_backward(shares, place, here)
        summed = total.log()
        return summed - picked, highest + summed

    @staticmethod
    def backward(ctx: Any, of_nats: Tensor, of_sum: Tensor) -> tuple[Tensor, None, None, None]:
        """Softmax times both gradients, less the first at the target."""
        shares, place, here = ctx.saved_tensors
        grad = shares * (of_nats + of_sum)[:, None]
        grad.scatter_add_(-1, place[:, None], -(of_nats * here)[:, None])
        return grad, None, None, None


_split: Callable[[Tensor, Tensor, int, ProcessGroup | None], tuple[Tensor, Tensor]]
_split = SplitVocabulary.apply


class Loss:
    """The sum over a rank's tokens, each weighted by one over the tokens of the whole batch.

    So the gradients of all ranks and micro-batches add up to that of the mean. `total` gathers the
    cross-entropy in nats, without z-loss, since it was last reset.
    """

    def __init__(
        self, *, z_weight: float = 0.0, group: ProcessGroup | None = None, first: int = 0
    ) -> None:
        self.z_weight, self.group, self.first = z_weight, group, first
        self.scale = 1.0
        """One over the tokens of the global batch."""
        self.total = torch.zeros(())

    def reset(self, batch_tokens: int) -> None:
        """Begin a step of so many tokens over all ranks."""
        self.scale = 1 / batch_tokens
        self.total = torch.zeros_like(self.total)

    def __call__(self, output: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
        """Return the scaled loss of logits [B, S, V] (further predictions behind) and [B, S]."""
        logits, further = (output[0], output[1:]) if isinstance(output, tuple) else (output, ())
        nats, penalty = self.parts(logits, target)
        self.total = self.total.to(nats.device) + nats.detach()
        loss = nats + penalty
        for depth, later in enumerate(further, start=1):
            inside = slice(0, target.shape[1] - depth)
            nats, _ = self.parts(later[:, inside], target[:, depth:])
            loss = loss + PREDICTION_WEIGHT / len(further) * nats
        return loss * self.scale

    def parts(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return summed cross-entropy in nats, and the z-loss (PaLM, arXiv 2204.02311 §5).

        Targets `LEFT_OUT` have no cross-entropy.
        """
        flat, wanted = logits.flatten(0, -2).float(), target.flatten()
        if self.group is None and not self.z_weight:
            nats = F.cross_entropy(flat, wanted, ignore_index=LEFT_OUT, reduction="sum")
            return nats, flat.new_zeros(())
        each, summed = _split(flat, wanted, self.first, self.group)
        nats = torch.where(wanted == LEFT_OUT, 0.0, each).sum()
        return nats, self.z_weight * summed.square().sum()
