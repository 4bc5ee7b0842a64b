"""Goodput of every policy by Monte-Carlo: events of a whole run drawn by their counts and sums.

Every array is `[D]`, one entry per draw. What happens is drawn (attempts that fail, changes while
another is under way, counts per island and round, outages, machines in repair); no mean of the
closed form is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from crore.simulate.failures.closed import interval_s
from crore.simulate.failures.outcome import CAUSES, Outcome, outcome
from crore.simulate.failures.params import RESTARTS, Policy, Run, check_policy
from crore.simulate.failures.rates import (
    TINY,
    Floats,
    Rates,
    checkpoint_of,
    in_repair,
    missing_share,
    rates,
    site_outages,
)
from crore.simulate.failures.rounds import finishing, forgiven, outage_chance, stretches
from crore.simulate.failures.sums import cut_exponentials, poisson_counts, uninterrupted

CELLS: Final = 4_000
"""Rounds times islands of one draw at most; longer runs are drawn from fewer rounds."""
LEAST: Final = 1e-300
"""A share that is told from none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """Draws of one run."""

    outcome: Outcome
    """Goodput and losses, `[D]`."""
    inverse_error: float
    """Standard error of the mean of 1/goodput, the time a run takes."""


def draw(run: Run, policy: Policy, work_s: float, draws: int, rng: Generator) -> Draws:
    """Return draws of a run of `work_s` seconds of work; UnknownName for another policy.

    Cost grows with draws, and with rounds and islands up to `CELLS`; not with GPUs.
    """
    check_policy(policy)
    if policy in RESTARTS:
        found = _restarted(run, policy, work_s, draws, rng)
        there = {"no spare": _with_spares(run, work_s, draws, rng)}
        return _independent(outcome(*found, there))
    there = _present(run, work_s, draws, rng)
    if policy in ("islands-barrier", "islands-quorum"):
        return _joined(run, policy, work_s, rng, there)
    groups = run.islands if policy == "islands-free" else 1
    found = _going_on(run, policy, groups, work_s * np.full(draws, float(groups)), rng)
    return _independent(outcome(*found, there))


def _independent(found: Outcome) -> Draws:
    inverse = 1 / np.maximum(np.asarray(found.goodput), LEAST)
    most = inverse.max()  # its square may be more than a float holds
    error = most * (inverse / most).std() / np.sqrt(inverse.size)
    return Draws(outcome=found, inverse_error=float(error))


def _restarted(
    run: Run, policy: Policy, work_s: float, draws: int, rng: Generator
) -> tuple[Floats, dict[str, Floats]]:
    """Whole intervals between checkpoints, attempt by attempt."""
    how, r = checkpoint_of(run, policy), rates(run, run.gpus)
    outages = site_outages(run)
    hard = r.failures + outages
    every = hard + r.silent
    work = interval_s(run, how, every)
    intervals = np.full(draws, float(max(1, round(work_s / work))))
    running_s, ended = uninterrupted(rng, intervals, work + how.write_s, every)
    silents = _part(rng, ended, r.silent / max(every, TINY))
    restart_s, again = uninterrupted(rng, ended, how.restart_s, hard)
    hits = ended - silents + again
    away = _part(rng, hits, outages / max(hard, TINY))
    replaced = _part(rng, hits - away, run.permanent) if policy != "hot-spares" else 0 * away
    dark_s = _exponentials(rng, away, run.sites.away_s)
    if policy != "restart-disk":
        dark_s += cut_exponentials(rng, away, run.storage_every_s, 0.0) + away * run.disk.restart_s
    slow = _slow_share(run, r, running_s, rng)
    speed = 1 / (1 + slow * (run.straggling.slowdown - 1))
    evicted = poisson_counts(rng, running_s * r.evictions)
    stops = running_s / run.planned.every_s
    busy_s = intervals * work
    return busy_s * speed, {
        "checkpoint": intervals * how.write_s,
        "lost work": running_s - intervals * (work + how.write_s),
        "restart": restart_s + replaced * run.spares.replace_s,
        "site outage": dark_s,
        "silent corruption": silents * run.silent.detect_s,
        "stragglers": busy_s * (1 - speed) + evicted * how.restart_s,
        "maintenance": stops * (run.planned.away_s + how.restart_s),
    }


def _part(rng: Generator, counts: Floats, share: float) -> Floats:
    """Return how many of the events are of a kind."""
    small = counts < 1e15
    drawn = rng.binomial(np.where(small, counts, 0).astype(np.int64), min(share, 1.0))
    return np.where(small, drawn, counts * share)


def _exponentials(rng: Generator, counts: Floats, mean_s: float) -> Floats:
    """Return sums of so many exponential times."""
    return np.where(counts > 0, rng.gamma(np.maximum(counts, TINY), 1.0), 0.0) * mean_s


def _slow_share(run: Run, r: Rates, work_s: Floats, rng: Generator) -> Floats:
    """Return the share of the work that a group did with a straggler in it.

    Work is cut in stretches as long as one lasts, each slow or not.
    """
    one_s = run.straggling.evict_s / run.straggling.slowdown
    if not r.slow:
        return np.zeros_like(work_s)
    count = np.maximum(1, np.round(work_s / max(one_s, TINY)))
    return _part(rng, count, r.slow) / count


def _going_on(
    run: Run, policy: Policy, groups: int, work_s: Floats, rng: Generator
) -> tuple[Floats, dict[str, Floats]]:
    """Groups that go on without what failed: `work_s` seconds of all of them together."""
    r = rates(run, run.gpus / groups)
    slow_s = work_s * _slow_share(run, r, work_s, rng) * (run.straggling.slowdown - 1)
    running_s = work_s + slow_s
    if policy == "elastic":
        changes = 2 * (r.failures + r.evictions)
        periods = poisson_counts(rng, running_s * changes)
        stalled_s, _ = uninterrupted(rng, periods, run.rebuild_s, changes)
        by_failure = np.full_like(stalled_s, 2 * r.failures / max(changes, TINY))
    else:
        failed = poisson_counts(rng, running_s * r.failures)
        evicted = poisson_counts(rng, running_s * r.evictions)
        stalled_s = (failed + evicted) * run.stall_s
        by_failure = failed / np.maximum(failed + evicted, 1)
    redone_s = run.silent.detect_s + run.silent.rollback_s
    return work_s, {
        "stall": stalled_s * by_failure,
        "stragglers": slow_s + stalled_s * (1 - by_failure),
        "silent corruption": poisson_counts(rng, running_s * r.silent) * redone_s,
    }


def _present(run: Run, work_s: float, draws: int, rng: Generator) -> dict[str, Floats]:
    """Return cause -> share of the fleet that was there, from events of each domain."""
    away = np.zeros(draws)
    for hazard in run.hazards:
        mean = run.hazard * hazard.per_gpu_s * run.gpus * work_s
        hit = max(run.world_gpus, hazard.domain_gpus) / run.gpus
        away += poisson_counts(rng, np.full(draws, mean)) * hit * run.absent_s / work_s
    outages = poisson_counts(rng, np.full(draws, site_outages(run) * work_s))
    dark = _exponentials(rng, outages, run.sites.away_s) / (run.islands * work_s)
    return {
        "absent worlds": 1 / (1 + away),
        "maintenance": np.full(draws, 1 / (1 + run.planned.away_s / run.planned.every_s)),
        "site outage": 1 / (1 + dark),
        "no spare": _with_spares(run, work_s, draws, rng),
    }


def _with_spares(run: Run, work_s: float, draws: int, rng: Generator) -> Floats:
    """Return the share of the fleet that is not waiting for a repair, from breakdowns in turn.

    Repairs take as long as each other, so those open are the breakdowns of the last four quarters.
    Drawn of no more islands than `CELLS` allows, whose luck is a little wider than that of all.
    """
    mean = in_repair(run)
    if not mean:
        return np.ones(draws)
    quarters = int(min(max(1, round(4 * work_s / run.spares.repair_s)), 1000))
    islands = max(1, min(run.islands, 2 * CELLS // quarters))
    broken = rng.poisson(mean / 4, (draws, quarters + 3, islands)).astype(float)
    total = np.cumsum(broken, axis=1)
    total[:, 4:] -= total[:, :-4].copy()
    share: Floats = 1 - missing_share(run, total[:, 3:]).mean(axis=(1, 2))
    return share


def _joined(
    run: Run, policy: Policy, work_s: float, rng: Generator, there: Mapping[str, Floats]
) -> Draws:
    """Islands that join after each round, round by round.

    A run of more rounds than `CELLS` allows is drawn from fewer; what it differs by from the mean
    of all draws is narrowed by the root of the ratio, so that its luck is that of all its rounds.
    """
    draws = there["no spare"].size
    rounds = max(1, round(work_s / run.round_s))
    drawn = max(1, min(rounds, CELLS // run.islands))
    means = _mean_rounds(run, policy, (draws, drawn), rng)
    inverse = sum(means.values()) / means["work"]
    share = max(float(np.prod([s.mean() for s in there.values()])), LEAST)
    error = float(inverse.std() / np.sqrt(draws)) / share
    centre = {name: mean.mean() for name, mean in means.items()}
    narrow = np.sqrt(drawn / rounds)
    means = {name: centre[name] + (mean - centre[name]) * narrow for name, mean in means.items()}
    gone = rng.binomial(rounds, outage_chance(run), draws) / rounds
    if policy == "islands-barrier":
        means["site outage"] = run.sites.timeout * run.round_s * gone
    work = means.pop("work")
    found = outcome(work, {name: means[name] for name in CAUSES if name in means}, there)
    rest = _independent(found).inverse_error
    return Draws(outcome=found, inverse_error=float(np.hypot(error, rest)))


def _mean_rounds(
    run: Run, policy: Policy, shape: tuple[int, int], rng: Generator
) -> dict[str, Floats]:
    """Return seconds per round of an average island, by cause and of work; each the mean of many.

    The counts of one round are `[D, rounds, islands]`.
    """
    r = rates(run, run.gpus / run.islands)
    cut = stretches(run, r)
    size = (*shape, run.islands)
    slow_s = rng.binomial(cut.count, cut.slow, size) * cut.late_s(run)
    running_s = run.round_s + slow_s
    stalls = {
        "stall": rng.poisson(r.failures * running_s) * run.stall_s,
        "stragglers": rng.poisson(r.evictions * running_s) * run.stall_s + slow_s,
        "silent corruption": rng.poisson(r.silent * running_s)
        * (run.silent.detect_s + run.silent.rollback_s),
    }
    own_s: Floats = run.round_s + np.sum(list(stalls.values()), axis=0)
    needed = run.islands if policy == "islands-barrier" else finishing(run)
    end_s = np.partition(own_s, needed - 1, axis=2)[:, :, needed - 1 : needed]
    done = np.minimum(1.0, end_s / own_s)
    parts = {**stalls, "barrier": np.maximum(end_s - own_s, 0.0)}
    found = {
        name: (part * (done if name != "barrier" else 1.0)).mean(axis=(1, 2))
        for name, part in parts.items()
    }
    done_s = run.round_s * done.mean(axis=(1, 2))
    alone = run.round_s / own_s.mean(axis=(1, 2))
    found["stall"] = found["stall"] + (more_s := forgiven(done_s, end_s.mean(axis=(1, 2)), alone))
    return {**found, "work": done_s - more_s}
