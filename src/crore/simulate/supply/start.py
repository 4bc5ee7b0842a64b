"""When a run ends on a fleet that grows: after waiting for all of it, rigid, or elastic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from crore.cost.sampling import Floats, normal, percentiles, two_sided
from crore.cost.scenario import Course, ramp_of, sampled
from crore.cost.start import Start, elastic_finish, rigid_start, start_now
from crore.cost.supply import HORIZON_YEARS, fleet_speed, years_to
from crore.errors import InputError

GRID: Final = 1_500
"""Times of the horizon, dense at its begin."""
SAME: Final = 1e-9
YEAR_S: Final = 365.25 * 86_400
WAYS: Final = ("waiting", "rigid", "elastic")
Spread = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """The plan of one size of the fleet, as far as starting needs it."""

    gpus: float
    """Of the plan's own kind."""
    run_s: float
    """Seconds until the last token on so many, failures included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Starts:
    """One way to start: years after the scenario's begin, (p10, p50, p90) over its ranges."""

    way: str
    start: Spread
    finish: Spread
    gpus: Spread
    """At the end, in units of the plan's kind."""


def rate_of(phases: Sequence[Phase]) -> Callable[[Floats], Floats]:
    """Return the share of the run that a fleet of so many GPUs does in a year.

    Between the phases that were planned the rate follows a power of the fleet. A larger fleet
    counts as the largest that was planned; one below the smallest does nothing, for nobody knows
    that the run fits. InputError without a phase.
    """
    if not phases:
        raise InputError("no size of the fleet has a plan")
    known = sorted(phases, key=lambda phase: phase.gpus)
    gpus = np.log([phase.gpus for phase in known])
    rates = np.log([YEAR_S / phase.run_s for phase in known])

    def rate(fleet: Floats) -> Floats:
        size = np.log(np.maximum(fleet, 1e-9))
        found = np.exp(np.interp(size, gpus, rates))
        done: Floats = np.where(size >= gpus[0] - SAME, found, 0.0)
        return done

    return rate


def starts_of(
    course: Course,
    phases: Sequence[Phase],
    days: Spread,
    *,
    draws: int = 200,
    seed: int = 0,
) -> tuple[Starts, ...]:
    """Return when a run ends by each of WAYS; `days` is the plan's own 80 % interval.

    A unit delivered at the begin is one of the plan's GPUs, later ones are faster by the
    scenario's gain, and batches follow speed. Waiting is for the largest phase; rigid keeps the
    fleet of its start; elastic takes in what comes from the first day it fits.
    """
    ramp = replace(ramp_of(course, sampled(draws, seed)), speed=1.0)
    grid: Floats = HORIZON_YEARS * np.linspace(0.0, 1.0, GRID) ** 2
    many = np.broadcast_to(fleet_speed(ramp, grid[:, None]), (grid.size, draws))
    work = two_sided(*days, normal("run length", draws, seed)) / days[1]
    rate, target = rate_of(phases), max(phase.gpus for phase in phases)
    whole = np.broadcast_to(years_to(ramp, target, speed=True), (draws,))
    found: dict[str, list[tuple[Start, float]]] = {way: [] for way in WAYS}
    for k in range(draws):
        fleet, one = many[:, k], float(work[k])
        does = rate(fleet)
        ways = (
            _waits(grid, does, one, float(whole[k])),
            rigid_start(grid, does, one),
            elastic_finish(grid, does, one),
        )
        for way, start in zip(WAYS, ways, strict=True):
            at = start.finish if way == "elastic" else start.start
            found[way].append((start, float(np.interp(at, grid, fleet))))
    return tuple(_together(way, found[way]) for way in WAYS)


def _waits(grid: Floats, does: Floats, work: float, whole: float) -> Start:
    if math.isinf(whole):
        return Start(start=math.inf, finish=math.inf)
    return start_now(grid, does, work, whole)


def _together(way: str, found: list[tuple[Start, float]]) -> Starts:
    return Starts(
        way=way,
        start=percentiles([it.start for it, _ in found]),
        finish=percentiles([it.finish for it, _ in found]),
        gpus=percentiles([gpus for _, gpus in found]),
    )
