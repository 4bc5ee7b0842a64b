"""Muon: hidden matrices move along an orthogonal direction, the rest by AdamW.

X: experts (1 for a plain matrix), O, I: rows and columns of a whole matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from crore.model.parallelize import finish_gradients
from crore.train.adamw import AdamW, OptimSettings, kind_of
from crore.train.local import local_part, place_like, whole

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: steepest at zero (Keller Jordan, Muon, 2024; as `torch.optim.Muon`)."""
SMALLEST_NORM: Final = 1e-7
RMS: Final = 0.2
"""Root mean square of an AdamW update, matched so that one learning rate serves both
(arXiv 2502.16982 §2.2)."""


class Muon:
    """Muon (arXiv 2502.16982) on matrices and stacked experts [X, O, I]; AdamW on the rest.

    The momentum is Nesterov's, kept on the shards in fp32; a cut matrix is gathered once per step.
    """

    def __init__(self, named: Mapping[str, Tensor], settings: OptimSettings) -> None:
        self.settings = settings
        self._named = {n: p for n, p in named.items() if kind_of(n, p) == "matrix"}
        rest = {n: p for n, p in named.items() if n not in self._named}
        self._rest = AdamW(rest, settings)
        self._momentum = {n: torch.zeros_like(local_part(p)) for n, p in self._named.items()}

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Update every parameter that has a gradient, at `lr_factor` of the learning rate."""
        finish_gradients(self._named.values())
        for name, parameter in self._named.items():
            if parameter.grad is not None:
                self._update(name, parameter, local_part(parameter.grad), lr_factor)
        self._rest.step(lr_factor)

    def _update(self, name: str, parameter: Tensor, grad: Tensor, lr_factor: float) -> None:
        s, lr = self.settings, self.settings.lr * lr_factor
        momentum = self._momentum[name].lerp_(grad, 1 - s.momentum)
        wanted = place_like(grad.lerp(momentum, s.momentum), parameter)
        step = _orthogonal_part(wanted, s.newton_schulz_steps)
        part = local_part(parameter)
        part.mul_(1 - lr * s.weight_decay)
        part.add_(step, alpha=-lr * RMS * math.sqrt(max(parameter.shape[-2:])))

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._named.values():
            parameter.grad = None
        self._rest.zero_grad()

    def state_tensors(self) -> dict[str, Tensor]:
        """Return `NAME.momentum` of matrices and AdamW's moments, placed as their parameters.

        What is loaded into them in place is what the next step uses.
        """
        momenta = {
            f"{name}.momentum": place_like(part, self._named[name])
            for name, part in self._momentum.items()
        }
        return momenta | self._rest.state_tensors()

    def state_facts(self) -> dict[str, Any]:
        """Return the state that is no tensor: the number of updates made."""
        return self._rest.state_facts()

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `state_facts` returned."""
        self._rest.load_facts(facts)


def orthogonal(matrices: Tensor, steps: int) -> Tensor:
    """Return matrices [..., O, I] with their singular values brought near 1, in bf16.

    Newton-Schulz, `steps` times: not U·Vᵀ but U·S·Vᵀ with S about 0.5 to 1.5; it trains as well.
    """
    a, b, c = COEFFICIENTS
    rows, columns = matrices.shape[-2:]
    x = matrices.reshape(-1, rows, columns).bfloat16()
    if rows > columns:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if rows > columns else x).reshape(matrices.shape)


def _orthogonal_part(wanted: Tensor, steps: int) -> Tensor:
    """Return this rank's part of `orthogonal`: matrices are made whole, stacks of them are not."""
    if not isinstance(wanted, DTensor):
        return orthogonal(wanted, steps)
    cuts = dict(enumerate(wanted.placements))
    kept = {axis: cut for axis, cut in cuts.items() if _keeps_matrices(cut, wanted.ndim)}
    part = whole(wanted, kept)
    step = DTensor.from_local(
        orthogonal(part, steps) if part.numel() else part, wanted.device_mesh,
        [kept.get(axis, Replicate()) for axis in cuts], run_check=False, shape=wanted.shape,
        stride=wanted.stride(),
    )  # fmt: skip
    return step.redistribute(placements=wanted.placements).to_local()


def _keeps_matrices(placement: object, dimensions: int) -> bool:
    """Return whether a placement cuts between matrices, never through one."""
    dimension = getattr(placement, "dim", None)  # a replicated one has none
    return dimension is None or dimension < dimensions - 2
