"""Supply in closed form: wafers to packages, deliveries to a fleet that wears out and retires."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.cost.sampling import Floats
from crore.errors import InputError

MONTHS: Final = 12
WAFER_MM: Final = 300.0
HORIZON_YEARS: Final = 60.0
"""What is not reached by then is called never."""
GRID_YEARS: Final = 0.1
"""Of the search for a crossing, before it is cut down."""


def packages_per_wafer(package_mm2: Num, wafer_mm: float = WAFER_MM) -> Num:
    """Return whole packages of a wafer, the rim left out: `π(d/2)²/A - πd/√(2A)`.

    The usual first-order count (de Vries, IEEE Trans. Semicond. Manuf. 18, 2005); it is low for
    packages as large as a tenth of the wafer. InputError for an area that is not above 0.
    """
    if np.any(np.less_equal(package_mm2, 0)):
        raise InputError("a package has an area above 0 mm2")
    return math.pi * (wafer_mm / 2) ** 2 / package_mm2 - math.pi * wafer_mm / np.sqrt(
        2 * package_mm2
    )


def packages_per_year(
    wafers_per_month: Num, package_mm2: Num, package_yield: Num, maker_share: Num
) -> Num:
    """Return packages a year of one maker: `12 · wafers · packages a wafer · yield · share`."""
    return MONTHS * wafers_per_month * packages_per_wafer(package_mm2) * package_yield * maker_share


@dataclass(frozen=True, kw_only=True, slots=True)
class Ramp:
    """Deliveries to one buyer and how the fleet shrinks; a field is a float or `[D]` draws."""

    starts: tuple[float, ...]
    """Years after the begin at which a segment starts; the first is 0, the last one never ends."""
    units_per_year: tuple[Num, ...]
    """Delivered at the start of each segment."""
    growth: tuple[Num, ...]
    """Continuous growth inside each segment, per year."""
    installed: Num = 0.0
    """Units delivered at year 0."""
    attrition: Num = 0.0
    """Continuous rate at which units break for good, per year."""
    life_years: Num = math.inf
    """Age at which a unit is retired."""
    speed: Num = 1.0
    """H100-equivalents of a unit delivered at year 0."""
    gain: Num = 0.0
    """Continuous growth of a new unit's speed, per year."""

    def __post_init__(self) -> None:
        """Refuse what is no course of supply; InputError."""
        if not len(self.starts) == len(self.units_per_year) == len(self.growth) >= 1:
            raise InputError("a ramp has a start, a rate and a growth for each of its segments")
        if self.starts[0] != 0 or any(np.diff(self.starts) <= 0):
            raise InputError(f"the segments of a ramp start at 0 and rise, not {self.starts}")
        rates = (*self.units_per_year, self.installed, self.attrition, self.gain)
        if any(np.any(np.less(rate, 0)) for rate in rates):
            raise InputError("deliveries, stock, attrition and gain are not below 0")
        if np.any(np.less_equal(self.life_years, 0)) or np.any(np.less_equal(self.speed, 0)):
            raise InputError("a unit's life and speed are above 0")


def delivered_per_year(ramp: Ramp, year: Num) -> Num:
    """Return units delivered per year at a time, `[T]`, `[D]` or `[T, D]` as the inputs are."""
    rate: Num = 0.0
    for k, start in enumerate(ramp.starts):
        end = ramp.starts[k + 1] if k + 1 < len(ramp.starts) else math.inf
        inside = np.greater_equal(year, start) & np.less(year, end)
        own = ramp.units_per_year[k] * np.exp(ramp.growth[k] * np.where(inside, year - start, 0.0))
        rate = rate + np.where(inside, own, 0.0)
    return rate


def fleet_units(ramp: Ramp, year: Num) -> Num:
    """Return the units at work: `∫ P(u)·e^{-δ(t-u)} du` over the last `life_years`, exact.

    Each segment's deliveries grow exponentially, so its integral is
    `P·e^{g(b-s)}·e^{-δ(t-b)}·(1 - e^{-(g+δ)(b-a)})/(g+δ)` between a and b. Shapes broadcast: `year`
    `[T, 1]` with `[D]` draws gives `[T, D]`.
    """
    return _at_work(ramp, year, 1.0, 0.0)


def fleet_speed(ramp: Ramp, year: Num) -> Num:
    """Return the fleet in H100-equivalents: every unit counts as fast as when it was delivered."""
    return _at_work(ramp, year, ramp.speed, ramp.gain)


def _at_work(ramp: Ramp, year: Num, speed: Num, gain: Num) -> Num:
    year = np.asarray(year, dtype=float)
    oldest = np.maximum(year - ramp.life_years, 0.0)
    young = np.less(year, ramp.life_years)
    total: Num = ramp.installed * speed * np.exp(-ramp.attrition * year) * young
    for k, start in enumerate(ramp.starts):
        end = ramp.starts[k + 1] if k + 1 < len(ramp.starts) else math.inf
        a, b = np.maximum(oldest, start), np.minimum(year, end)
        width = np.maximum(b - a, 0.0)
        b = a + width
        growth = ramp.growth[k] + gain
        k_sum = np.asarray(growth + ramp.attrition, dtype=float)
        safe = np.where(np.abs(k_sum) > TINY, k_sum, 1.0)
        # The limit of (1 - e^{-kw})/k for k to 0 is w.
        grown = np.where(np.abs(k_sum) > TINY, -np.expm1(-safe * width) / safe, width)
        at_end = ramp.units_per_year[k] * speed * np.exp(gain * start + growth * (b - start))
        decay = np.exp(-ramp.attrition * np.maximum(year - b, 0.0))
        total = total + np.where(width > 0, at_end * decay * grown, 0.0)
    return total


TINY: Final = 1e-9
"""Rates below this are no rates: a century changes by less than a ten-millionth."""


def years_to(ramp: Ramp, target: float, *, speed: bool = False) -> Floats:
    """Return years until the fleet first counts `target` units (or H100-equivalents), `[D]`.

    Infinite where it does not within HORIZON_YEARS. The crossing is bracketed on a grid and cut
    down to a millionth of a year. InputError for a target that is not above 0.
    """
    if not target > 0:
        raise InputError(f"a fleet to wait for counts more than 0 units, not {target:g}")
    counted = fleet_speed if speed else fleet_units
    grid = np.arange(0.0, HORIZON_YEARS + GRID_YEARS, GRID_YEARS)
    reached = np.atleast_2d(counted(ramp, grid[:SOON, None])) >= target
    if not reached.any(axis=0).all():  # most fleets that one asks for are there soon
        reached = np.atleast_2d(counted(ramp, grid[:, None])) >= target
    ever, first = reached.any(axis=0), reached.argmax(axis=0)
    high = grid[first]
    low = np.where(first > 0, high - GRID_YEARS, 0.0)
    low, high = np.where(ever, low, 0.0), np.where(ever & (first > 0), high, 0.0)
    for _ in range(CUTS):
        middle = (low + high) / 2
        enough = np.ravel(counted(ramp, middle)) >= target
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    found: Floats = np.where(ever, high, np.inf)
    return found


CUTS: Final = 20
SOON: Final = 9
"""Points of the grid looked at first."""


def most_units(ramp: Ramp, *, speed: bool = False) -> Floats:
    """Return the largest fleet within HORIZON_YEARS, `[D]`."""
    grid = np.arange(0.0, HORIZON_YEARS + GRID_YEARS, GRID_YEARS)
    counted = fleet_speed if speed else fleet_units
    largest: Floats = np.atleast_2d(counted(ramp, grid[:, None])).max(axis=0)
    return largest


def steady_units(units_per_year: Num, attrition: Num, life_years: Num) -> Num:
    """Return what a flat supply settles at: `P·(1 - e^{-δL})/δ`, `P·L` without attrition."""
    rate = np.asarray(attrition, dtype=float)
    safe = np.where(rate > TINY, rate, 1.0)
    wear = np.where(rate > TINY, -np.expm1(-safe * life_years) / safe, life_years)
    settled: NDArray[np.float64] = np.asarray(units_per_year * wear)
    return settled
