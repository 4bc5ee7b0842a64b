"""What the loop asks of the other islands; a run on one island has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from crore.train.loop import Trainer


class Fleet(Protocol):
    """The islands that join their weights now and then."""

    def after(self, run: Trainer) -> None:
        """Hear that a step is done."""

    def due(self, run: Trainer) -> bool:
        """Return whether the next meeting of the island's worlds is to join the islands."""

    def join(self, run: Trainer) -> bool:
        """Join the islands, in a meeting of the island's worlds that has begun; False: again."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint, or a world that joins, must hold besides the model."""

    def facts(self) -> dict[str, Any]:
        """Return the same in numbers."""

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `facts` returned."""

    def see_off(self, run: Trainer) -> None:
        """Wait a little, once the run has ended, for islands that are late."""

    def close(self) -> None:
        """Leave the other islands."""


class OneIsland:
    """A run without other islands."""

    def after(self, run: Trainer) -> None:
        """Nothing is joined."""

    def due(self, run: Trainer) -> bool:
        """Return that nothing is due."""
        del run
        return False

    def join(self, run: Trainer) -> bool:
        """Return that it is done."""
        del run
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Nothing more is kept."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Nothing more is kept."""
        return {}

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Nothing more was kept."""

    def see_off(self, run: Trainer) -> None:
        """Nobody is late."""

    def close(self) -> None:
        """Nobody is left."""
