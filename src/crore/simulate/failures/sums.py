"""Sums of many random times drawn at once: `[D]` draws, whatever the number of events."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.random import Generator

from crore.simulate.failures.rates import TINY, Floats

FEW: Final = 64
"""Up to so many times are drawn one by one; the sum of more is normal to 1e-3 of its deviation."""
MOST: Final = 1e15
"""Counts of larger means are not distinguishable from them."""


def poisson_counts(rng: Generator, mean: Floats) -> Floats:
    """Return Poisson counts of these means, `[D]`."""
    counts = rng.poisson(np.minimum(mean, MOST)).astype(float)
    return np.where(mean > MOST, mean, counts)


def uninterrupted(
    rng: Generator, stretches: Floats, length_s: float, rate: float
) -> tuple[Floats, Floats]:
    """Return (seconds, interruptions) until so many stretches of `length_s` were left alone.

    An interrupted stretch starts again. Each is left alone with chance e^(-rate·length), so
    interruptions are negative binomial, and each cost an exponential cut at the length.
    """
    exponent = min(rate * length_s, 300.0)
    waits = rng.gamma(np.maximum(stretches, TINY), np.expm1(exponent))
    failed = poisson_counts(rng, np.where(stretches > 0, waits, 0.0))
    return stretches * length_s + cut_exponentials(rng, failed, length_s, rate), failed


def cut_exponentials(rng: Generator, counts: Floats, length_s: float, rate: float) -> Floats:
    """Return sums of so many exponential times, each given to be shorter than `length_s`."""
    total = np.zeros_like(counts)
    few = counts <= FEW
    if few.any():
        chances = rng.random((int(few.sum()), FEW))
        each = _shorter_than(chances, length_s, rate)
        total[few] = np.where(np.arange(FEW) < counts[few][:, None], each, 0.0).sum(axis=1)
    if not few.all():
        mean, deviation = _moments(length_s, rate)
        many = counts[~few]
        drawn = mean * many + deviation * np.sqrt(many) * rng.standard_normal(many.size)
        total[~few] = np.clip(drawn, 0.0, many * length_s)
    return total


def _shorter_than(chances: Floats, length_s: float, rate: float) -> Floats:
    """Return the quantiles of an exponential time cut at `length_s`."""
    if rate * length_s < 1e-9:
        return chances * length_s
    times: Floats = -np.log1p(chances * np.expm1(-rate * length_s)) / rate
    return times


def _moments(length_s: float, rate: float) -> tuple[float, float]:
    """Return (mean, deviation) of an exponential time cut at `length_s`."""
    x = rate * length_s
    if x < 1e-4:
        return length_s * (0.5 - x / 12), length_s / 12**0.5
    kept = -np.expm1(-x)
    mean = 1 - x * np.exp(-x) / kept
    square = 2 - (x * x + 2 * x) * np.exp(-x) / kept
    return float(mean / rate), float(np.sqrt(max(square - mean * mean, 0.0)) / rate)
