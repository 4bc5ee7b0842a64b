"""When to start a run on a fleet that grows: at once, rigid after a wait, or elastic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num
from crore.cost.sampling import Floats
from crore.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A way to run; years after the begin of supply, infinite for never."""

    start: float
    finish: float


def linear_rigid(work: Num, rate: Num) -> tuple[Num, Num]:
    """Return (start, finish) of the best rigid run when speed grows as `rate·t`.

    `finish = t + work/(rate·t)` is least at `t = √(work/rate)`: it ends at twice that.
    """
    start = np.sqrt(work / rate)
    return start, 2 * start


def linear_elastic(work: Num, rate: Num) -> Num:
    """Return the finish of a run that takes in GPUs as they come: `√(2·work/rate)`."""
    return np.sqrt(2 * work / rate)


def longest_rigid_years(growth: Num) -> Num:
    """Return the run length above which waiting pays, `1/r`, when speed grows as `e^{rt}`."""
    return 1 / growth


def rigid_start(years: Floats, speed: Floats, work: float) -> Start:
    """Return the start that ends first when the fleet of the start is kept for the whole run.

    `years` and `speed` (work per year) are `[T]`, rising in time. Losses are replaced from later
    deliveries. InputError for work or times that are none.
    """
    _check(years, speed, work)
    with np.errstate(divide="ignore"):
        finish = years + work / speed
    best = int(np.argmin(finish))
    return Start(start=float(years[best]), finish=float(finish[best]))


def start_now(years: Floats, speed: Floats, work: float, at: float) -> Start:
    """Return a rigid run that starts at a given time; never where there is no fleet then."""
    _check(years, speed, work)
    then = float(np.interp(at, years, speed))
    return Start(start=at, finish=at + work / then if then > 0 else math.inf)


def elastic_finish(years: Floats, speed: Floats, work: float) -> Start:
    """Return a run that starts at once and uses the whole fleet at all times.

    It ends where `∫ speed dt = work`, by trapezoids between the times given; infinite where that
    is after the last.
    """
    _check(years, speed, work)
    steps = np.diff(years) * (speed[1:] + speed[:-1]) / 2
    done = np.concatenate([[0.0], np.cumsum(steps)])
    k = int(np.searchsorted(done, work))
    if k >= done.size:
        return Start(start=float(years[0]), finish=math.inf)
    if k == 0:
        return Start(start=float(years[0]), finish=float(years[0]))
    share = (work - done[k - 1]) / (done[k] - done[k - 1])
    return Start(
        start=float(years[0]), finish=float(years[k - 1] + share * (years[k] - years[k - 1]))
    )


def batch_shares(units: Floats, speeds: Floats) -> Floats:
    """Return each generation's share of the batch, `[G]`: as its units by their measured speed.

    Islands hold one generation each; every island then ends its round at the same time, and outer
    gradients are weighted by the tokens behind them. InputError for a fleet without units.
    """
    weight = np.asarray(units, dtype=float) * np.asarray(speeds, dtype=float)
    total = float(weight.sum())
    if not total > 0 or np.any(weight < 0):
        raise InputError("a batch is shared among units of which there are some, none below 0")
    shares: Floats = weight / total
    return shares


def slowest_share(units: Floats, speeds: Floats) -> float:
    """Return the speed of equal batches over that of batches by speed: all wait for the slowest.

    `N·min(s)/Σ n·s` over the generations that have units.
    """
    here = np.asarray(units) > 0
    count, weight = np.asarray(units)[here], np.asarray(speeds)[here]
    if not count.size:
        raise InputError("a batch is shared among units of which there are some")
    return float(count.sum() * weight.min() / (count @ weight))


def _check(years: Floats, speed: Floats, work: float) -> None:
    if not 0 < work < math.inf:
        raise InputError(f"a run takes work above 0, not {work:g}")
    if years.shape != speed.shape or years.size < 2 or np.any(np.diff(years) <= 0):
        raise InputError("times rise, and each has the speed of its fleet")
    if np.any(speed < 0):
        raise InputError("a fleet's speed is not below 0")
