"""A scenario of the catalogue becomes a course of supply: caps by year, the least of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from crore.catalog.economics import Figure
from crore.catalog.supply import Cap, Scenario
from crore.cost.arrays import Num
from crore.cost.sampling import Floats, triangle, uniform
from crore.cost.supply import Ramp, packages_per_year
from crore.errors import InputError, UnknownName

Spread = tuple[float, float, float]
Pick = Callable[[str, Spread], Num]
"""(name, (low, value, high)) -> the value taken: the middle one, or draws `[D]`."""
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "buyer_share": (0.0, 1.0), "maker_share": (0.0, 1.0), "attrition_per_year": (0.0, 1.0),
    "life_years": (0.1, 100.0), "growth_per_year": (-0.99, 10.0), "units_per_year": (1.0, 1e12),
    "installed": (0.0, 1e12),
}  # fmt: skip
"""What a user may put in the place of a scenario's figure, ends included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A scenario with the user's own figures laid over it."""

    scenario: Scenario
    own: Mapping[str, float]
    """Figure -> what the user says it is; `units_per_year` stands for all caps."""

    def __post_init__(self) -> None:
        """Refuse figures that no scenario has, or out of range."""
        for name, value in self.own.items():
            if name not in RANGES:
                raise UnknownName("figure of supply", name, RANGES)
            low, high = RANGES[name]
            if not low <= value <= high:
                raise InputError(f"{name} is {low:g} to {high:g}, not {value:g}")
        if self.own.get("buyer_share") == 0 or self.own.get("maker_share") == 0:
            raise InputError("a buyer with no share of the supply gets nothing: give one above 0")

    def figure(self, name: str) -> Figure:
        """Return a figure of the scenario."""
        return self.scenario.figure(name)


def middle(name: str, spread: Spread) -> Num:
    """Take the likely value of every figure."""
    del name
    return spread[1]


def sampled(draws: int, seed: int) -> Pick:
    """Return a pick of `[draws]` triangular draws; a figure's own depend on its name and `seed`."""

    def pick(name: str, spread: Spread) -> Num:
        if spread[0] == spread[2]:
            return spread[1]
        return triangle(*spread, uniform(f"supply.{name}", draws, seed))

    return pick


def at_end(name: str, high: bool) -> Pick:
    """Return a pick that takes one figure at an end of its range and the others in the middle."""

    def pick(own: str, spread: Spread) -> Num:
        return spread[2 if high else 0] if own == name else spread[1]

    return pick


def ramp_of(course: Course, pick: Pick = middle) -> Ramp:
    """Return what a buyer gets: the least of the caps at every knot, times the buyer's share.

    Between knots supply grows by the same share a year; after the last by `growth_per_year`.
    """
    it = course.scenario

    def value(name: str) -> Num:
        return course.own[name] if name in course.own else pick(name, it.figure(name).spread())

    growth = np.log1p(value("growth_per_year"))
    share = value("buyer_share")
    if "units_per_year" in course.own:
        starts, rates = [0.0], [course.own["units_per_year"] * share]
    else:
        starts = _starts(it)
        rates = [
            _least([_units(cap, it.begin + t, pick, value, growth) for cap in it.caps]) * share
            for t in starts
        ]
    between = [
        np.log(after / before) / (end - start)
        for before, after, start, end in zip(rates, rates[1:], starts, starts[1:], strict=False)
    ]
    return Ramp(
        starts=tuple(starts), units_per_year=tuple(rates), growth=(*between, growth),
        installed=course.own.get("installed", it.installed),
        attrition=value("attrition_per_year"), life_years=value("life_years"),
        speed=value("h100_equivalents"), gain=np.log(2) / value("doubling_years"),
    )  # fmt: skip


def _starts(it: Scenario) -> list[float]:
    """Return the years after the begin at which a cap bends, the begin itself first."""
    years = {knot[0] for cap in it.caps for knot in cap.knots}
    return [0.0, *sorted(year - it.begin for year in years if year > it.begin)]


def _least(caps: list[Num]) -> Floats:
    least = np.asarray(caps[0], dtype=float)
    for cap in caps[1:]:
        least = np.minimum(least, cap)
    return least


def _units(cap: Cap, year: float, pick: Pick, value: Callable[[str], Num], growth: Num) -> Num:
    """Return units a year that one cap allows in a year."""
    amount = _amount(cap, year, pick, growth)
    if cap.unit == "wafers/month":
        return packages_per_year(
            amount, value("package_mm2"), value("package_yield"), value("maker_share")
        )
    if cap.unit == "stacks/year":
        return amount / value("stacks_per_unit") * value("maker_share")
    return amount


def _amount(cap: Cap, year: float, pick: Pick, growth: Num) -> Num:
    """Return the cap in its own unit; every knot of a cap at the same place of its range."""
    years = [knot[0] for knot in cap.knots]
    amounts = [pick(f"cap {cap.name}", knot[1:]) for knot in cap.knots]
    if year >= years[-1]:
        return amounts[-1] * np.exp(growth * (year - years[-1]))
    if year <= years[0]:
        return amounts[0]
    k = int(np.searchsorted(years, year, side="right")) - 1
    share = (year - years[k]) / (years[k + 1] - years[k])
    return amounts[k] * (amounts[k + 1] / amounts[k]) ** share
