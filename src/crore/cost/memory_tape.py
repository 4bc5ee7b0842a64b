"""A pass as a sequence of allocations and releases, and its highest moment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crore.cost.arrays import Num


@dataclass(kw_only=True, slots=True)
class Rise:
    """Bytes made one after the other, then bytes freed."""

    made: Num = 0.0
    gradients: Num = 0.0
    """Of these, gradients of weights, which stay beyond the pass."""
    freed: Num = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Top:
    """The highest moment of a pass, over what was there when it began; bytes, floats or `[N]`."""

    made: Num
    """Gradients of weights left out."""
    gradients: Num
    end: Num
    """Alive when it ended, gradients of weights left out."""


@dataclass(kw_only=True, slots=True)
class Tape:
    """Written in the order of the code: what it makes and what it lets go."""

    rises: list[Rise] = field(default_factory=list)

    def make(self, *sizes: Num) -> Tape:
        """Make tensors."""
        rise = self._rising()
        for size in sizes:
            rise.made = rise.made + size
        return self

    def gradient(self, size: Num) -> Tape:
        """Make the gradient of a weight."""
        rise = self._rising()
        rise.gradients = rise.gradients + size
        return self

    def free(self, *sizes: Num) -> Tape:
        """Let tensors go."""
        rise = self.rises[-1]
        for size in sizes:
            rise.freed = rise.freed + size
        return self

    def _rising(self) -> Rise:
        if not self.rises or np.any(self.rises[-1].freed):
            self.rises.append(Rise())
        return self.rises[-1]

    def top(self, stays: Num = 1.0) -> Top:
        """Return the highest moment; `stays` is 0 where a weight's gradient is added at once."""
        made: Num = 0.0
        gradients: Num = 0.0
        best: tuple[Num, Num, Num] = (0.0, 0.0, 0.0)
        for rise in self.rises:
            made = made + rise.made
            new = gradients + rise.gradients
            higher = np.greater(made + new, best[0])
            best = (
                np.where(higher, made + new, best[0]),
                np.where(higher, made, best[1]),
                np.where(higher, new, best[2]),
            )
            made = made - rise.freed
            gradients = gradients + rise.gradients * stays
        return Top(made=best[1], gradients=best[2], end=made)
