"""Ranges as draws: one seed, the same draw of a figure wherever it is used."""

from __future__ import annotations

import math
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num

DRAWS: Final = 1_000
"""Draws by default: the ends of an 80 % interval of them are off by 0.01 of the distribution."""
PERCENTS: Final = (10, 50, 90)
Floats = NDArray[np.float64]


def uniform(name: str, draws: int, seed: int = 0) -> Floats:
    """Return `[draws]` numbers of (0, 1) that depend on the name and the seed alone.

    One per stratum of equal chance, in random order (latin hypercube; McKay, Beckman, Conover
    1979): a thousand draws say what several thousand independent ones do.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    strata: Floats = (rng.permutation(draws) + rng.random(draws)) / draws
    return strata


def triangle(low: Num, value: Num, high: Num, chance: Num) -> Floats:
    """Return the quantile of a triangular distribution: mode `value`, nothing outside the ends."""
    a, b, c = (np.asarray(x, dtype=float) for x in (low, value, high))
    u = np.asarray(chance, dtype=float)
    width = np.where(c > a, c - a, 1.0)
    below = a + np.sqrt(u * width * (b - a))
    above = c - np.sqrt((1 - u) * width * (c - b))
    drawn: Floats = np.where(c > a, np.where(u < (b - a) / width, below, above), b)
    return drawn


def two_sided(low: float, value: float, high: float, deviations: Num) -> Floats:
    """Return `value` times a lognormal whose 10th and 90th percentile are `low` and `high`.

    `deviations` are standard normal; each side has its own spread. Raises nothing: ends equal to
    the value give the value.
    """
    z = np.asarray(deviations, dtype=float)
    side: Floats = np.where(z < 0, math.log(value / low), math.log(high / value))
    drawn: Floats = value * np.exp(z * side / NINETIETH)
    return drawn


NINETIETH: Final = 1.2815515655446004
"""90th percentile of the standard normal distribution."""


def normal(name: str, draws: int, seed: int = 0) -> Floats:
    """Return `[draws]` standard normal numbers that depend on the name and the seed alone."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn: Floats = rng.standard_normal(draws)
    return drawn


def percentiles(values: Any) -> tuple[float, float, float]:
    """Return (p10, p50, p90) of draws; infinite where that share of them is.

    Always one of the draws, so that infinite ones do not spoil their neighbours.
    """
    found = np.percentile(np.asarray(values, dtype=float), PERCENTS, method="inverted_cdf")
    return float(found[0]), float(found[1]), float(found[2])
