"""How long something takes when little disturbs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

LEAST_SAMPLES: Final = 1
LONG: Final = 4.0
"""Budgets that a call may take and still be repeated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Times calls on one device."""

    device: str
    """cpu or cuda."""
    budget_s: float
    """Time for one measurement."""

    def settle(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the lower quartile of repeated calls, the first to warm up left out.

        The rest of a machine's work only ever adds time; the smallest sample of all would be luck.
        """
        return self.one_by_one([call])

    def one_by_one(self, calls: Sequence[Callable[[], object]]) -> float:
        """Return the lower quartile of single calls, each the next of a list in turn.

        None meets what it met before until all had their turn. The first warms up and is left out,
        unless it takes so long by itself that nothing is left of the budget.
        """
        first_s = self._round_s(calls[-1:])
        if first_s > LONG * self.budget_s:
            return first_s
        samples: list[float] = []
        end = time.perf_counter() + self.budget_s
        while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
            samples.append(self._round_s([calls[len(samples) % len(calls)]]))
        return lower_quartile(samples)

    def rotating(self, calls: Sequence[Callable[[], object]]) -> float:
        """Return the lower quartile of the mean call of a round through all of them."""
        samples: list[float] = []
        end = time.perf_counter() + self.budget_s
        while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
            samples.append(self._round_s(calls) / len(calls))
        return lower_quartile(samples)

    def _round_s(self, calls: Sequence[Callable[[], object]]) -> float:
        self.settle()
        start = time.perf_counter()
        for call in calls:
            call()
        self.settle()
        return time.perf_counter() - start


def lower_quartile(samples: Sequence[float]) -> float:
    """Return the sample that a quarter of all do not exceed."""
    return sorted(samples)[len(samples) // 4]
