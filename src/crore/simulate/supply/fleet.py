"""A fleet that grows day by day: cohorts are delivered, break one by one, retire at an age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from crore.cost.sampling import Floats
from crore.cost.supply import Ramp, delivered_per_year
from crore.errors import InputError

STEPS_PER_YEAR: Final = 365
MOST_YEARS: Final = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """A fleet over time; arrays are `[T]`, one entry per step, or `[G, T]` by generation."""

    years: Floats
    """Since the begin, at the end of each step."""
    units: Floats
    """At work, all generations."""
    by_generation: Floats
    """`[G, T]`: at work, by when they were delivered."""
    speeds: Floats
    """`[G]`: H100-equivalents of a unit of each generation."""
    delivered: Floats
    """`[T]`: in all, until then."""
    broken: Floats
    retired: Floats

    @property
    def speed(self) -> Floats:
        """`[T]`: the fleet in H100-equivalents."""
        total: Floats = self.speeds @ self.by_generation
        return total


def grow(
    ramp: Ramp,
    years: float,
    *,
    generation_years: float = 2.0,
    random: np.random.Generator | None = None,
) -> History:
    """Return the fleet of one course of supply, every day of `years`.

    Units delivered within `generation_years` are one generation, as fast as one of its middle.
    Cohorts are followed one by one: each loses its share of every step and retires whole. With
    `random` deliveries are Poisson and losses binomial counts; without, their means. InputError
    for years out of range or a ramp of several draws.
    """
    _check(ramp, years, generation_years)
    step = 1.0 / STEPS_PER_YEAR
    ends: Floats = (
        np.arange(1, round(years * STEPS_PER_YEAR) + 1, dtype=np.float64) / STEPS_PER_YEAR
    )
    middles = ends - step / 2
    kind = np.concatenate([[0], np.floor(middles / generation_years).astype(int)])
    arriving = np.asarray(delivered_per_year(ramp, middles), dtype=float) * step
    flows = _Flows(ramp, np.concatenate([[0.0], middles]), random)
    found = np.zeros((int(kind[-1]) + 1, ends.size))
    counts = np.zeros((3, ends.size))
    for k, year in enumerate(ends):
        counts[:, k] = flows.step(k, float(year), float(arriving[k]))
        here = slice(flows.oldest, k + 2)
        found[:, k] = np.bincount(kind[here], flows.cohorts[here], minlength=found.shape[0])
    at = (np.arange(found.shape[0]) + 0.5) * generation_years
    delivered, broken, retired = np.cumsum(counts, axis=1)
    return History(
        years=ends,
        units=found.sum(axis=0),
        by_generation=found,
        speeds=float(ramp.speed) * np.exp(float(ramp.gain) * at),
        delivered=float(ramp.installed) + delivered,
        broken=broken,
        retired=retired,
    )


class _Flows:
    """Cohorts by the day they came, the stock first, and what happens to them in a step."""

    def __init__(self, ramp: Ramp, born: Floats, random: np.random.Generator | None) -> None:
        self.cohorts = np.zeros(born.size)
        self.cohorts[0] = float(ramp.installed)
        self.oldest = 0
        self._born, self._random, self._life = born, random, float(ramp.life_years)
        self._lost = -float(np.expm1(-float(ramp.attrition) / STEPS_PER_YEAR))

    def step(self, k: int, year: float, arriving: float) -> tuple[float, float, float]:
        """Return units (delivered, broken, retired) in step `k`, which ends at `year`."""
        alive, lost = self.cohorts[self.oldest : k + 1], self._lost
        if self._random is None:
            fails = alive * lost
            # Those that come during a step come evenly: half a step of wear.
            new, early = arriving * (1 - lost / 2), arriving * lost / 2
        else:
            fails = self._random.binomial(alive.astype(int), lost).astype(float)
            new, early = float(self._random.poisson(arriving)), 0.0
        alive -= fails
        self.cohorts[k + 1] = new
        retired = 0.0
        while self.oldest <= k and self._born[self.oldest] <= year - self._life:
            retired += float(self.cohorts[self.oldest])
            self.oldest += 1
        return new + early, float(fails.sum()) + early, retired


def _check(ramp: Ramp, years: float, generation_years: float) -> None:
    if not 1 / STEPS_PER_YEAR <= years <= MOST_YEARS:
        raise InputError(f"a fleet is followed for a day to {MOST_YEARS:g} years, not {years:g}")
    if not 0.1 <= generation_years <= MOST_YEARS:
        raise InputError(
            f"a generation lasts 0.1 to {MOST_YEARS:g} years, not {generation_years:g}"
        )
    parts = (*ramp.units_per_year, *ramp.growth, ramp.installed, ramp.attrition, ramp.life_years)
    if any(np.size(part) != 1 for part in parts):
        raise InputError("one course of supply is followed at a time, not several draws")
