"""AdamW on each rank's own shards: element by element, so no mesh matters and nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from crore.errors import InputError
from crore.model.parallelize import finish_gradients
from crore.train.local import local_part, place_like

Kind = Literal["matrix", "embedding", "head", "vector"]

EMBEDDINGS: Final = ("embedding", "positions")
"""Modules that are tables of vectors, one looked up at a time."""
HEADS: Final = ("head",)
"""Modules that turn hidden states into logits."""
FUSED: Final = ("cpu", "cuda")
"""Devices where torch has AdamW as one kernel."""
MOMENTS: Final = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimSettings:
    """How weights are updated."""

    lr: float
    """Peak learning rate; a step's is this times the schedule's factor."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of AdamW's two moments, per step (GPT-3, arXiv 2005.14165; Llama)."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Per step and unit of learning rate, on matrices."""
    decay_embeddings: bool = False
    """Whether tables of embeddings decay too."""
    momentum: float = 0.95
    """Decay of Muon's momentum, per step."""
    newton_schulz_steps: int = 5
    """Iterations that make a matrix nearly orthogonal."""

    def __post_init__(self) -> None:
        """Raise `InputError` for a value no optimizer takes."""
        shares = (*self.betas, self.momentum)
        if not (self.lr >= 0 and self.eps >= 0 and self.weight_decay >= 0):
            raise InputError(
                f"learning rate ({self.lr}), eps ({self.eps}) and weight decay "
                f"({self.weight_decay}) must be 0 or more"
            )
        if not all(0 <= share < 1 for share in shares):
            raise InputError(f"betas and momentum must be from 0 to below 1, not {shares}")


def kind_of(name: str, parameter: Tensor) -> Kind:
    """Return what a parameter is, by its name and shape."""
    *modules, leaf = name.split(".")
    module = modules[-1] if modules else ""
    if module in EMBEDDINGS:
        return "embedding"
    if parameter.ndim < 2 or leaf.endswith("bias"):
        return "vector"
    return "head" if module in HEADS else "matrix"


def decays(name: str, parameter: Tensor, settings: OptimSettings) -> bool:
    """Return whether a parameter's weights decay: matrices do; norms and biases never."""
    kind = kind_of(name, parameter)
    return kind in ("matrix", "head") or (kind == "embedding" and settings.decay_embeddings)


class AdamW:
    """AdamW (arXiv 1711.05101) as `torch.optim.AdamW`, over the ranks' own shards.

    Parameters are fp32, and so are the two moments. A parameter without a gradient is left alone.
    """

    def __init__(self, named: Mapping[str, Tensor], settings: OptimSettings) -> None:
        wrong = [name for name, p in named.items() if p.dtype != torch.float32]
        assert not wrong, f"the optimizer updates fp32 weights; {wrong[:3]} are not"
        self.settings, self.steps = settings, 0
        self._named = dict(named)
        self._decay = {name: decays(name, p, settings) for name, p in named.items()}
        self._moments = {
            name: [torch.zeros_like(local_part(p)) for _ in MOMENTS] for name, p in named.items()
        }

    @torch.no_grad()
    def step(self, lr_factor: float) -> None:
        """Update every parameter that has a gradient, at `lr_factor` of the learning rate."""
        finish_gradients(self._named.values())
        self.steps += 1
        for decay in (True, False):
            due = [n for n, p in self._named.items() if self._decay[n] == decay and _has_work(p)]
            if due:
                self._update(due, self.settings.lr * lr_factor, decay=decay)

    def _update(self, names: list[str], lr: float, *, decay: bool) -> None:
        s, before = self.settings, float(self.steps - 1)
        parameters = [local_part(self._named[name]) for name in names]
        gradients = [local_part(g) for name in names if (g := self._named[name].grad) is not None]
        first, second = zip(*(self._moments[name] for name in names), strict=True)
        device = parameters[0].device
        adamw(
            parameters,
            gradients,
            list(first),
            list(second),
            [],
            list(torch.full((len(names),), before, device=device).unbind()),
            fused=device.type in FUSED,
            amsgrad=False,
            beta1=s.betas[0],
            beta2=s.betas[1],
            lr=lr,
            weight_decay=s.weight_decay if decay else 0.0,
            eps=s.eps,
            maximize=False,
        )

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self._named.values():
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the moments, `NAME.exp_avg` and `NAME.exp_avg_sq`, placed as their parameters.

        What is loaded into them in place is what the next step uses.
        """
        return {
            f"{name}.{moment}": place_like(part, self._named[name])
            for name, parts in self._moments.items()
            for moment, part in zip(MOMENTS, parts, strict=True)
        }

    def state_facts(self) -> dict[str, Any]:
        """Return the state that is no tensor: the number of updates made."""
        return {"steps": self.steps}

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `state_facts` returned."""
        self.steps = int(facts["steps"])


def _has_work(parameter: Tensor) -> bool:
    """Return whether there is a gradient, and a row of the parameter on this rank."""
    return parameter.grad is not None and local_part(parameter).numel() > 0
