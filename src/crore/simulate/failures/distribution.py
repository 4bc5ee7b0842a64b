"""How a run may go: luck and, where asked for, ignorance of the hazard; and what matters most."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from crore.errors import InputError, shown
from crore.simulate.failures.closed import goodput
from crore.simulate.failures.draws import Draws, draw
from crore.simulate.failures.outcome import CAUSES
from crore.simulate.failures.params import Policy, Run, check_policy
from crore.simulate.failures.rates import Floats

CHUNK: Final = 1000
"""Draws made together."""
STRATA: Final = 40
"""Hazards tried where it is not known: the middles of as many equal parts of its law."""
NEVER: Final = 1e-280
"""Goodput of a run that does not end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsure:
    """What is known of the hazard: log-normal around a median, times that of the run.

    An estimate: the goodput of FT-HSDP at about 100,000 GPUs (arXiv 2602.00277) comes out of this
    model at 1.4 times Llama 3's where all restart, and at 1.8 where they are elastic.
    """

    median: float = 1.8
    sigma: float = 0.5
    """Standard deviation of the logarithm."""

    def __post_init__(self) -> None:
        if not 0 < self.median < 1e6 or not 0 <= self.sigma < 10:
            raise InputError(f"unsure: 0 < median < 1e6, 0 <= sigma < 10, not {shown(self)}")

    def middles(self, parts: int) -> list[float]:
        """Return the hazards at the middles of so many equally likely parts."""
        normal = NormalDist(float(np.log(self.median)), self.sigma or 1e-12)
        return [float(np.exp(normal.inv_cdf((k + 0.5) / parts))) for k in range(parts)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """Draws of a run, `[D]` each."""

    goodput: Floats
    finish_s: Floats
    """Seconds until the work is done; up to 1e280 times as long where nothing gets done."""
    hazard: Floats
    """Of each draw."""
    losses: Mapping[str, float]
    """Cause -> share of the time, the mean of all draws."""
    inverse_error: float
    """Standard error of the mean of 1/goodput."""

    def percentiles(self, of: str) -> dict[str, float]:
        """Return p10, p50 and p90 of "goodput" or "finish_s"."""
        values = {"goodput": self.goodput, "finish_s": self.finish_s}[of]
        return {f"p{q}": float(np.percentile(values, q)) for q in (10, 50, 90)}


def run_distribution(
    run: Run,
    policy: Policy,
    work_s: float,
    draws: int = 1000,
    seed: int = 0,
    *,
    unsure: Unsure | None = None,
    on_draws: Callable[[int], None] | None = None,
) -> Distribution:
    """Return draws of a run that takes `work_s` seconds when nothing fails; one seed, one answer.

    `unsure` spreads the hazard as well, in `STRATA` steps. `on_draws` is told the draws done.
    InputError for no work or no draws, UnknownName for another policy.
    """
    check_policy(policy)
    if not 0 < work_s < 1e12 or draws < 1:
        raise InputError(f"a run has work_s > 0 and draws >= 1, not {work_s:g} and {draws}")
    seeds = np.random.SeedSequence(seed)
    parts: list[Draws] = []
    hazards: list[Floats] = []
    done = 0
    for hazard, count in _chunks(run.hazard, draws, unsure):
        rng = np.random.default_rng(seeds.spawn(1)[0])
        parts.append(draw(replace(run, hazard=hazard), policy, work_s, count, rng))
        hazards.append(np.full(count, hazard))
        done += count
        if on_draws:
            on_draws(done)
    return _together(parts, hazards, work_s)


def _chunks(hazard: float, draws: int, unsure: Unsure | None) -> Iterator[tuple[float, int]]:
    """Yield (hazard, draws) of each chunk."""
    strata = min(STRATA, draws) if unsure and unsure.sigma else 1
    factors = unsure.middles(strata) if unsure else [1.0]
    for k, factor in enumerate(factors):
        left = draws * (k + 1) // strata - draws * k // strata
        while left:
            yield hazard * factor, min(left, CHUNK)
            left -= min(left, CHUNK)


def _together(parts: list[Draws], hazards: list[Floats], work_s: float) -> Distribution:
    useful = np.concatenate([np.asarray(part.outcome.goodput) for part in parts])
    shares = np.array([hazard.size for hazard in hazards]) / useful.size
    errors = np.array([part.inverse_error for part in parts])
    means = {
        cause: [float(np.mean(part.outcome.losses[cause])) for part in parts] for cause in CAUSES
    }
    return Distribution(
        goodput=useful,
        finish_s=work_s / np.maximum(useful, NEVER),
        hazard=np.concatenate(hazards),
        losses={cause: float(shares @ np.array(mean)) for cause, mean in means.items()},
        inverse_error=math.hypot(*(errors * shares)),
    )


def elasticities(run: Run, policy: Policy) -> dict[str, float]:
    """Return parameter -> d ln goodput / d ln parameter, the largest first; closed form.

    By a change of 1 %; of a slowdown, what it is above one. Parameters that are zero, whole numbers
    or a quorum are left out.
    """
    base = np.log(max(float(goodput(run, policy).goodput), NEVER))
    found = {}
    for name, factor, changed in _changes(run):
        moved = np.log(max(float(goodput(changed, policy).goodput), NEVER))
        found[name] = float((moved - base) / np.log(factor))
    return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def _changes(run: Run) -> Iterator[tuple[str, float, Run]]:
    """Yield (name, factor, run) with one number changed by a hundredth, where that is allowed."""
    for k, hazard in enumerate(run.hazards):
        scaled = replace(hazard, per_gpu_s=hazard.per_gpu_s * 1.01)
        others = (*run.hazards[:k], scaled, *run.hazards[k + 1 :])
        yield f"hazards.{hazard.name}", 1.01, replace(run, hazards=others)
    for f in fields(run):
        value = getattr(run, f.name)
        if is_dataclass(value) and not isinstance(value, type):
            for name, factor, part in _scaled(value):
                yield f"{f.name}.{name}", factor, replace(run, **{f.name: part})
    for name, factor, changed in _scaled(run):
        yield name, factor, changed


def _scaled(record: Any) -> Iterator[tuple[str, float, Any]]:
    """Yield (name, factor, record) for each number of a record."""
    for f in fields(record):
        value = getattr(record, f.name)
        if not isinstance(value, float) or not 0 < value < np.inf or f.name == "quorum":
            continue
        for factor in (1.01, 1 / 1.01):
            try:
                above = 1.0 if f.name == "slowdown" else 0.0
                changed = replace(record, **{f.name: above + (value - above) * factor})
            except InputError:  # a share above one, worlds larger than their island
                continue
            yield f.name, factor, changed
            break
