"""Goodput of every policy in closed form, split by cause: renewal-reward on one `Run`."""

from __future__ import annotations

import numpy as np

from crore.cost.goodput import best_interval
from crore.simulate.failures.outcome import Outcome, outcome
from crore.simulate.failures.params import RESTARTS, Checkpoint, Policy, Run, check_policy
from crore.simulate.failures.rates import (
    TINY,
    Rates,
    absence,
    checkpoint_of,
    expected_missing,
    outage_s,
    rates,
    site_outages,
    wait_for_machine_s,
)
from crore.simulate.failures.rounds import joined

MOST = 300.0
"""Exponents beyond it are cut: a run that needs e^300 attempts is as dead as one that needs more,
and its shares stay numbers."""


def goodput(run: Run, policy: Policy) -> Outcome:
    """Return goodput and losses of a run under a policy; UnknownName for another policy.

    Restarts: Daly's exact form with several kinds of interruption. Elastic and quorum: dead time
    that each change prolongs, or that ends with the first. Islands: `rounds.joined`.
    """
    check_policy(policy)
    if policy in RESTARTS:
        return _restarted(run, policy)
    if policy in ("islands-barrier", "islands-quorum"):
        return outcome(*joined(run, policy), present(run))
    gpus = run.gpus / (run.islands if policy == "islands-free" else 1)
    return outcome(1.0, _going_on(run, rates(run, gpus), policy), present(run))


def present(run: Run) -> dict[str, float]:
    """Return cause -> share of the fleet that is there, of groups that go on without the rest."""
    return {
        "absent worlds": 1 / (1 + absence(run)),
        "maintenance": 1 / (1 + run.planned.away_s / run.planned.every_s),
        "site outage": 1 / (1 + run.sites.away_s / run.sites.every_s),
        "no spare": 1 - expected_missing(run),
    }


def interval_s(run: Run, how: Checkpoint, interruptions: float) -> float:
    """Return the best seconds of work between two checkpoints, one step at least."""
    rate = max(interruptions, TINY)
    return max(float(best_interval(how.write_s * rate)) / rate, run.step_s)


def _restarted(run: Run, policy: Policy) -> Outcome:
    """All GPUs stop for every interruption: seconds per interval between two checkpoints.

    A stretch of l seconds without interruption takes `(e^(Λl) - 1)/Λ` and as many attempts that
    fail as that is of 1/Λ. Waiting for a machine or a site is not interrupted.
    """
    how, r = checkpoint_of(run, policy), rates(run, run.gpus)
    outages = site_outages(run)
    hard = max(r.failures + outages, TINY)
    every = hard + r.silent
    work_s = interval_s(run, how, every)
    ends = _failed_attempts(every * (work_s + how.write_s))
    running_s = ends / every
    again = _failed_attempts(hard * how.restart_s)
    hits = ends * hard / every + ends * again
    slowed = r.slow * (run.straggling.slowdown - 1)
    speed = 1 / (1 + slowed)
    lost_s = {
        "checkpoint": how.write_s,
        "lost work": max(running_s - work_s - how.write_s, 0.0),
        "restart": ends * again / hard + hits * r.failures / hard * wait_for_machine_s(run, policy),
        "site outage": hits * outages / hard * outage_s(run, policy),
        "silent corruption": ends * r.silent / every * run.silent.detect_s,
        "stragglers": work_s * (1 - speed) + running_s * r.evictions * how.restart_s,
        "maintenance": running_s / run.planned.every_s * (run.planned.away_s + how.restart_s),
    }
    return outcome(work_s * speed, lost_s, {"no spare": 1 - expected_missing(run)})


def _failed_attempts(exponent: float) -> float:
    return float(np.expm1(min(exponent, MOST)))


def _going_on(run: Run, r: Rates, policy: Policy) -> dict[str, float]:
    """Seconds lost per second of work of a group that goes on without what failed."""
    slow_s = r.slow * (run.straggling.slowdown - 1)
    running_s = 1 + slow_s
    stops = r.failures + r.evictions
    if policy == "elastic":
        # A world that drops comes back: two changes each, and any prolongs the rebuild under way.
        stalled_s = running_s * _failed_attempts(2 * stops * run.rebuild_s)
    else:
        stalled_s = running_s * stops * run.stall_s
    by_failure = r.failures / max(stops, TINY)
    return {
        "stall": stalled_s * by_failure,
        "stragglers": slow_s + stalled_s * (1 - by_failure),
        "silent corruption": running_s * r.silent * (run.silent.detect_s + run.silent.rollback_s),
    }
