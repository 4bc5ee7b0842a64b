"""A plan's run from the first step to the last token: drawn, compared, asked what matters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.plan.request import DAY_S
from crore.simulate.failures import (
    Distribution,
    Policy,
    Run,
    Unsure,
    elasticities,
    goodput,
    run_distribution,
)
from crore.simulate.run.step import Step
from crore.simulate.run.subject import Spread, Subject

HAZARDS: Final = (1.0, 3.0)
"""Times the plan's rate at which every policy is shown: as counted, and three times as bad."""
EIGHTY: Final = 1.2815515655446004
"""Standard deviations of a normal distribution within which 80 % lie on both sides."""
STALLED: Final = 0.01
"""A goodput below which a run is said to stand still: it takes a hundred times as long."""
NEVER_DAYS: Final = 1e6
"""A median beyond it is no date."""
Watch = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Three points of a distribution."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyResult:
    """One policy at one rate of failures."""

    policy: Policy
    hazard: float
    goodput: float
    """Mean of the draws."""
    inverse_error: float
    """Standard error of the mean of 1/goodput."""
    closed: float
    """The closed form's."""
    finish_days: Percentiles | None
    """By luck alone: the rate is known. None beyond `NEVER_DAYS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What was drawn of one plan."""

    subject: Subject
    step: Step
    policy: Policy
    """The one simulated: the plan's, or the one asked for."""
    goodput: Percentiles
    losses: dict[str, float]
    """Mean share by cause."""
    finish_days: Percentiles | None
    """Luck, an unsure rate of failures, and the plan's own intervals of step and learning. None
    beyond `NEVER_DAYS`."""
    policies: tuple[PolicyResult, ...]
    moves: dict[str, float]
    """Parameter -> d ln goodput / d ln parameter, the largest first."""
    unsure: Unsure | None
    hazard: float
    draws: int
    seed: int
    cpu_s: float

    @property
    def stands_still(self) -> bool:
        """Return whether the run never gets anywhere."""
        return self.goodput.p50 < STALLED or self.finish_days is None

    @property
    def best(self) -> PolicyResult:
        """Return the policy that keeps most of the time at the rate as counted."""
        return max(self.at(HAZARDS[0]), key=lambda it: it.goodput)

    def at(self, hazard: float) -> tuple[PolicyResult, ...]:
        """Return every policy at one multiple of the rate."""
        return tuple(it for it in self.policies if it.hazard == hazard)


def simulate_plan(
    subject: Subject, step: Step, *, policy: Policy | None = None, draws: int = 1000, seed: int = 0,
    hazard: float | None = None, watch: Watch | None = None,
) -> Simulation:  # fmt: skip
    """Return `draws` runs of a plan under its policy, and every policy beside it.

    Without `hazard` the rate of failures is unsure (`Unsure`); with it the rate is so many times
    the catalogue's. One seed, one result.
    """
    started = time.process_time()
    chosen = policy or subject.policy
    unsure = Unsure() if hazard is None else None
    run = replace(subject.run, hazard=1.0 if hazard is None else hazard)
    cases = [(name, times) for times in HAZARDS for name in subject.applies]
    told = _told(watch, len(cases) + 1)
    told(0, chosen)
    drawn = run_distribution(run, chosen, subject.work_s, draws=draws, seed=seed, unsure=unsure)
    results = []
    for done, (name, times) in enumerate(cases, start=1):
        told(done, f"{name} at hazard x{times:g}")
        results.append(_result(replace(subject.run, hazard=times), name, subject, draws, seed))
    return Simulation(
        subject=subject, step=step, policy=chosen, goodput=_points(drawn.goodput),
        losses={cause: float(share) for cause, share in drawn.losses.items()},
        finish_days=_dates(_finish_days(subject, chosen, drawn, seed)), policies=tuple(results),
        moves=elasticities(run, chosen), unsure=unsure, hazard=run.hazard, draws=draws, seed=seed,
        cpu_s=time.process_time() - started,
    )  # fmt: skip


def _told(watch: Watch | None, steps: int) -> Callable[[int, str], None]:
    return lambda done, text: watch(done / steps, text) if watch else None


def _result(run: Run, policy: Policy, subject: Subject, draws: int, seed: int) -> PolicyResult:
    drawn = run_distribution(run, policy, subject.work_s, draws=draws, seed=seed)
    learned = _learning(policy, subject).value
    return PolicyResult(
        policy=policy, hazard=run.hazard, goodput=float(np.mean(drawn.goodput)),
        inverse_error=drawn.inverse_error, closed=float(np.asarray(goodput(run, policy).goodput)),
        finish_days=_dates(drawn.finish_s / DAY_S / learned),
    )  # fmt: skip


def _learning(policy: Policy, subject: Subject) -> Spread:
    """Return progress per token: islands that meet now and then learn less, others as one."""
    apart = policy.startswith("islands-")
    return subject.learning if apart else Spread(low=1.0, value=1.0, high=1.0)


def _finish_days(
    subject: Subject, policy: Policy, drawn: Distribution, seed: int
) -> NDArray[np.float64]:
    """Return days of each draw, its step and learning drawn from the plan's 80 % intervals.

    Two-piece lognormal: half the draws below the middle value, half above.
    """
    numbers = np.random.default_rng((seed, 1)).standard_normal((2, drawn.finish_s.size))
    step = _lognormal(subject.step_s, numbers[0]) / subject.step_s.value
    learned = _lognormal(_learning(policy, subject), numbers[1])
    days: NDArray[np.float64] = drawn.finish_s / DAY_S * step / learned
    return days


def _lognormal(spread: Spread, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    below, above = math.log(spread.value / spread.low), math.log(spread.high / spread.value)
    width = np.where(normal < 0, below, above) / EIGHTY
    drawn: NDArray[np.float64] = spread.value * np.exp(width * normal)
    return drawn


def _dates(days: NDArray[np.float64]) -> Percentiles | None:
    found = _points(days)
    return found if found.p50 <= NEVER_DAYS else None


def _points(values: NDArray[np.float64]) -> Percentiles:
    p10, p50, p90 = (float(np.quantile(values, q, method="nearest")) for q in (0.1, 0.5, 0.9))
    return Percentiles(p10=p10, p50=p50, p90=p90)
