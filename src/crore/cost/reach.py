"""When a fleet is there: the year it counts so many units, what moves it, or why never."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from crore.cost.sampling import DRAWS, Floats, percentiles
from crore.cost.scenario import Course, at_end, middle, ramp_of, sampled
from crore.cost.supply import HORIZON_YEARS, Ramp, most_units, steady_units, years_to
from crore.units import format_count, three_digits

RAMPS: Final = (0.1, 0.2, 0.5)
"""Points of yearly growth that a faster ramp adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mover:
    """The assumption that moves a figure most, over its own range, others in the middle."""

    name: str
    """Figure of a scenario, or `cap NAME`."""
    low: float
    """The result with it at its low end; infinite for never."""
    high: float
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """When a buyer's fleet counts a target."""

    target: float
    in_h100: bool
    """The target is in H100-equivalents, not in units."""
    begin: float
    """Year the scenario's clock starts."""
    years: tuple[float, float, float]
    """(p10, p50, p90) after the begin; infinite where that share of the draws never gets there."""
    likely: float
    """With every figure at its likely value."""
    reached: float
    """Share of the draws that get there within HORIZON_YEARS."""
    never: str
    """Why the likely course never gets there; empty where it does."""
    most: float
    """Largest fleet of the likely course."""
    ramps: tuple[tuple[float, float], ...]
    """(points of growth a year more, years then)."""
    movers: tuple[Mover, ...]
    """Most first."""


def reach_of(
    course: Course, target: float, *, in_h100: bool = False, draws: int = DRAWS, seed: int = 0
) -> Reach:
    """Return when the fleet of a course counts `target` units, or H100-equivalents.

    InputError for a target that is not above 0.
    """
    likely_ramp = ramp_of(course, middle)
    likely = float(years_to(likely_ramp, target, speed=in_h100)[0])
    found = drawn_years(course, target, in_h100=in_h100, draws=draws, seed=seed)
    return Reach(
        target=target, in_h100=in_h100, begin=course.scenario.begin, years=percentiles(found),
        likely=likely, reached=float(np.mean(np.isfinite(found))),
        never="" if math.isfinite(likely) else _why(likely_ramp, target, in_h100),
        most=float(most_units(likely_ramp, speed=in_h100)[0]),
        ramps=tuple((more, _faster(course, more, target, in_h100)) for more in RAMPS),
        movers=movers_of(course, target, in_h100=in_h100),
    )  # fmt: skip


def drawn_years(
    course: Course, target: float, *, in_h100: bool = False, draws: int = DRAWS, seed: int = 0
) -> Floats:
    """Return the years to `target` of every draw of the scenario's ranges, `[draws]`."""
    ramp = ramp_of(course, sampled(draws, seed))
    found: Floats = np.broadcast_to(years_to(ramp, target, speed=in_h100), (draws,))
    return found


def _faster(course: Course, more: float, target: float, in_h100: bool) -> float:
    """Years when supply grows by so many points more a year, from the begin on."""
    ramp = ramp_of(course, middle)
    growth = tuple(np.log(np.exp(g) + more) for g in ramp.growth)
    rates = [ramp.units_per_year[0]]
    for k in range(1, len(ramp.starts)):
        rates.append(rates[-1] * np.exp(growth[k - 1] * (ramp.starts[k] - ramp.starts[k - 1])))
    faster = replace(ramp, growth=growth, units_per_year=tuple(rates))
    return float(years_to(faster, target, speed=in_h100)[0])


def movers_of(course: Course, target: float, *, in_h100: bool = False) -> tuple[Mover, ...]:
    """Return how far each range of the scenario moves the years, most first; none moves nothing."""
    it = course.scenario
    ranges = {name: fig.spread() for name, fig in it.figures.items() if name not in course.own}
    sources = {name: it.figures[name].provenance.source for name in ranges}
    if "units_per_year" not in course.own:
        for cap in it.caps:
            ranges[f"cap {cap.name}"] = cap.knots[-1][1:]
            sources[f"cap {cap.name}"] = cap.provenance.source
    found = []
    for name, (low, _, high) in ranges.items():
        if low == high and not name.startswith("cap "):
            continue
        ends = [
            float(years_to(ramp_of(course, at_end(name, high=end)), target, speed=in_h100)[0])
            for end in (False, True)
        ]
        if ends[0] != ends[1]:
            found.append(Mover(name=name, low=ends[0], high=ends[1], source=sources[name]))
    return tuple(sorted(found, key=lambda it: -_moved(it)))


def _moved(it: Mover) -> float:
    """Years between the ends; never counts as one horizon."""
    return abs(min(it.high, HORIZON_YEARS) - min(it.low, HORIZON_YEARS))


def _why(ramp: Ramp, target: float, in_h100: bool) -> str:
    """Return one sentence on why a course never reaches its target."""
    most = float(most_units(ramp, speed=in_h100)[0])
    what = "H100-equivalents" if in_h100 else "GPUs"
    rate, growth = (float(np.asarray(x[-1])) for x in (ramp.units_per_year, ramp.growth))
    attrition, life = (float(np.asarray(x)) for x in (ramp.attrition, ramp.life_years))
    losses = f"{attrition:.1%} of the fleet breaking a year and retirement after {life:g} years"
    if growth > 0:
        return (
            f"the fleet is at most {format_count(most)} {what} within {HORIZON_YEARS:g} years, "
            f"below {format_count(target)}: {format_count(rate)} units a year growing by "
            f"{math.expm1(growth):.1%}, {losses}"
        )
    if growth < 0:
        return (
            f"supply falls by {-math.expm1(growth):.1%} a year: with {losses} the fleet is at most "
            f"{format_count(most)} {what}, below {format_count(target)}"
        )
    settled = float(steady_units(rate, attrition, life))
    needs = target / settled * rate if settled else math.inf
    return (
        f"{format_count(rate)} units a year with {losses} come to at most {format_count(most)} "
        f"{what}, below {format_count(target)}: it takes {format_count(needs)} a year, or "
        f"{three_digits(target / max(most, 1.0))} times the supply"
    )
