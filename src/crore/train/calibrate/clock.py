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
        """Return the lower quartile of repeated calls, one to warm up left out.

        The rest of a machine's work only ever adds time; the smallest sample of all would be luck.
        A call that takes long by itself is made once.
        """
        self.settle()
        start = time.perf_counter()
        call()
        self.settle()
        first_s = time.perf_counter() - start
        return first_s if first_s > LONG * self.budget_s else self.rotating([call])

    def one_by_one(self, calls: Sequence[Callable[[], object]]) -> float:
        """Return the lower quartile of single calls, each the next of a list in turn.

        One to warm up is left out. None meets what it met before until all had their turn.
        """
        calls[-1]()
        samples: list[float] = []
        self.settle()
        end = time.perf_counter() + self.budget_s
        while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
            start = time.perf_counter()
            calls[len(samples) % len(calls)]()
            self.settle()
            samples.append(time.perf_counter() - start)
        return lower_quartile(samples)

    def rotating(self, calls: Sequence[Callable[[], object]]) -> float:
        """Return the same of one call of a round, each round calling all of them in turn."""
        samples: list[float] = []
        self.settle()
        end = time.perf_counter() + self.budget_s
        while len(samples) < LEAST_SAMPLES or time.perf_counter() < end:
            start = time.perf_counter()
            for call in calls:
                call()
            self.settle()
            samples.append((time.perf_counter() - start) / len(calls))
        return lower_quartile(samples)


def lower_quartile(samples: Sequence[float]) -> float:
    """Return the sample that a quarter of all do not exceed."""
    return sorted(samples)[len(samples) // 4]
