"""An axis: where a value stands between two ends, and the round values to write beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

DECADES_FROM: Final = 3.0
"""Values that span this factor are drawn on a logarithmic axis."""
STEPS: Final = (1.0, 2.0, 5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A linear or logarithmic axis from the value `low` at `start` to `high` at `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def over(
        cls, values: Sequence[float], start: float, end: float, *, log: bool | None = None,
        room: float = 0.06,
    ) -> Self:  # fmt: skip
        """Return the axis of some values, a share `room` left free at both ends.

        Logarithmic where they span a factor of three, unless `log` says.
        """
        low, high = min(values), max(values)
        logs = low > 0 and high >= DECADES_FROM * low if log is None else log
        if logs:
            spare = (high / low) ** room if high > low else 1.5
            return cls(low=low / spare, high=high * spare, start=start, end=end, log=True)
        pad = room * (high - low) or 0.1 * abs(high) or 1.0
        return cls(low=low - pad, high=high + pad, start=start, end=end, log=False)

    def __call__(self, value: float) -> float:
        """Return where a value stands."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values on the axis, ascending, at most `most` of them."""
        found = self._decades(most) if self.log else []
        return found if len(found) > 1 else self._even(most)

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in (STEPS, (1.0, 3.0), (1.0,)):
            values = [m * 10.0**k for k in range(first, last + 1) for m in steps]
            found = [value for value in values if self.low <= value <= self.high]
            if len(found) <= most:
                return found
        return found[:: math.ceil(len(found) / most)]

    def _even(self, most: int) -> list[float]:
        least = (self.high - self.low) / most
        step = round_step(least)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [k * step for k in range(first, last + 1)][:most]


def round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least `least` (above 0)."""
    decade = 10.0 ** math.floor(math.log10(least))
    return next(m * decade for m in (*STEPS, 10.0) if m * decade >= least * (1 - 1e-9))
