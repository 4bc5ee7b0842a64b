"""The optimizers of the trainer, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from torch import Tensor

from crore.errors import UnknownName
from crore.train.adamw import AdamW, OptimSettings
from crore.train.muon import Muon

__all__ = ["OPTIMIZERS", "OptimSettings", "Optimizer", "build_optimizer"]


class Optimizer(Protocol):
    """Updates parameters from their gradients, and shows its state to a checkpoint."""

    def step(self, lr_factor: float) -> None:
        """Update every parameter that has a gradient, at `lr_factor` of the learning rate."""

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state by name, placed as the parameters; load into it in place."""

    def state_facts(self) -> dict[str, Any]:
        """Return the state that is no tensor, as JSON takes it."""

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `state_facts` returned."""


OPTIMIZERS: Final[Mapping[str, Callable[[Mapping[str, Tensor], OptimSettings], Optimizer]]] = {
    "adamw": AdamW,
    "muon": Muon,
}
"""As a plan's layout names them (`crore.cost.layout.OPTIMIZERS`)."""


def build_optimizer(name: str, named: Mapping[str, Tensor], settings: OptimSettings) -> Optimizer:
    """Return the optimizer of a name over named fp32 parameters, plain or DTensors of any mesh.

    Build it when the weights are on their device: its state is made there, all zero. Raises
    `UnknownName`.
    """
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name](named, settings)
