"""Where a run is, and what a step came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(kw_only=True, slots=True)
class Place:
    """Where a run is: all that a resume needs besides tensors."""

    step: int = 0
    """Steps done."""
    set_aside: int = 0
    """Samples that roll-backs have passed over, and that went with islands that were away."""
    samples: int = 0
    """Samples used; on one of several islands, those of all islands."""
    met: int = 0
    """Steps and outer steps that the worlds took together, those that roll-backs undid included."""

    @property
    def next_sample(self) -> int:
        """Global index of the first sample of the next step."""
        return self.samples + self.set_aside


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbers:
    """One step's numbers, reduced over the world."""

    loss: float
    """Nats per token."""
    grad_norm: float
    leave: bool
    """Whether any rank was asked to end."""


NOTHING: Final = Numbers(loss=0.0, grad_norm=0.0, leave=False)
