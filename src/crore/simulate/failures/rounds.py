"""Islands that join after every round: the law of one island's round, and who waits for whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from crore.cost.arrays import Num
from crore.simulate.failures.params import Policy, Run
from crore.simulate.failures.rates import TINY, Floats, Rates, poisson, rates

POINTS: Final = (200, 40)
"""Most different counts of stalls and of silent corruptions in the law of a round."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretches:
    """How stragglers meet a round: it is cut in stretches no longer than one lasts."""

    count: int
    work_s: float
    """Work in one stretch."""
    slow: float
    """Chance that one is slow, independent of the others."""

    def late_s(self, run: Run) -> float:
        """Return seconds that one slow stretch takes longer."""
        return self.work_s * (run.straggling.slowdown - 1)


def stretches(run: Run, r: Rates) -> Stretches:
    """Return the stretches of a round of an island with these rates."""
    work_s = run.straggling.evict_s / run.straggling.slowdown
    count = max(1, round(run.round_s / work_s)) if r.slow else 1
    return Stretches(count=count, work_s=run.round_s / count, slow=r.slow)


def finishing(run: Run) -> int:
    """Return how many islands a quorum waits for."""
    return math.ceil(run.quorum * run.islands - 1e-9)


def outage_chance(run: Run) -> float:
    """Return the chance that another site goes away in a round."""
    return float(-np.expm1(-(run.islands - 1) * run.round_s / run.sites.every_s))


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """Seconds that one island's round takes beyond its work: `[A]` values, the shortest first."""

    chance: Floats
    stall_s: Floats
    straggler_s: Floats
    silent_s: Floats

    @property
    def late_s(self) -> Floats:
        """All causes together."""
        return self.stall_s + self.straggler_s + self.silent_s


def law_of_round(run: Run) -> Law:
    """Return the law of a round of one island: slow stretches, then stalls and corruptions.

    Counts are binomial and, given how long the round then runs, Poisson.
    """
    r = rates(run, run.gpus / run.islands)
    cut = stretches(run, r)
    stops = r.failures + r.evictions
    by_failure = r.failures / max(stops, TINY)
    redone_s = run.silent.detect_s + run.silent.rollback_s
    parts = []
    for slow, chance in _binomial(cut.count, cut.slow):
        slow_s = slow * cut.late_s(run)
        stalls, p_stalls = poisson(stops * (run.round_s + slow_s), POINTS[0])
        silents, p_silents = poisson(r.silent * (run.round_s + slow_s), POINTS[1])
        grid = np.broadcast_arrays(
            chance * p_stalls[:, None] * p_silents,
            stalls[:, None] * run.stall_s * by_failure,
            stalls[:, None] * run.stall_s * (1 - by_failure) + slow_s,
            silents * redone_s,
        )
        parts.append(np.stack([x.ravel() for x in grid]))
    law = np.concatenate(parts, axis=1)
    law = law[:, np.argsort(law[1:].sum(axis=0), kind="stable")]
    return Law(chance=law[0], stall_s=law[1], straggler_s=law[2], silent_s=law[3])


def _binomial(count: int, share: float) -> list[tuple[int, float]]:
    """Return (k, chance) of a binomial variable but for 1e-18."""
    if share <= 0:
        return [(0, 1.0)]
    log = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in range(count + 1)
    ]  # fmt: skip
    return [(k, math.exp(x)) for k, x in enumerate(log) if x > math.log(1e-18)]


def joined(run: Run, policy: Policy) -> tuple[float, dict[str, float]]:
    """Return (useful seconds, seconds lost by cause) of an average island per round.

    A round ends with the last island, or with the `finishing(run)`-th: the others are merged with
    the part of the round they have done. Useful over all time is E[work]/E[time] (renewal-reward),
    and no more than an island's alone.
    """
    law, work_s = law_of_round(run), run.round_s
    own_s = work_s + law.late_s
    needed = run.islands if policy == "islands-barrier" else finishing(run)
    end_s = float(_chances(law, needed, run.islands) @ own_s)
    late = needed < run.islands
    weight = law.chance * (_done(law, own_s, needed, run.islands - 1) if late else 1.0)
    waited_s = max(end_s - float(weight @ own_s), 0.0)
    timeout_s = run.sites.timeout * work_s * outage_chance(run)
    done_s = work_s * float(weight.sum())
    forgiven_s = float(forgiven(done_s, end_s, work_s / float(law.chance @ own_s)))
    return done_s - forgiven_s, {
        "stall": float(weight @ law.stall_s) + forgiven_s,
        "stragglers": float(weight @ law.straggler_s),
        "silent corruption": float(weight @ law.silent_s),
        "barrier": waited_s,
        "site outage": timeout_s if policy == "islands-barrier" else 0.0,
    }


def forgiven(done_s: Num, end_s: Num, alone: Num) -> Num:
    """Return seconds of work beyond what an island does that waits for nobody, a share `alone`.

    A late island's round is cut where it stands, maybe in a stall whose rest the next round then
    should begin with. It does not, so that the work is bounded by that of an island alone.
    """
    return np.maximum(done_s - end_s * alone, 0.0)


def _chances(law: Law, needed: int, islands: int) -> Floats:
    """Return the chance of each value to be that of the `needed`-th of `islands` to finish."""
    at_most = np.minimum(np.cumsum(law.chance), 1.0)
    with np.errstate(divide="ignore"):
        early, late = np.log(at_most), np.log(np.maximum(1 - at_most, 0.0))
    reached = np.zeros_like(at_most)
    for k in range(islands - needed + 1):
        ways = math.lgamma(islands + 1) - math.lgamma(k + 1) - math.lgamma(islands - k + 1)
        reached += np.exp(ways + (k * late if k else 0.0) + (islands - k) * early)
    reached[-1] = 1.0
    return np.diff(np.minimum(reached, 1.0), prepend=0.0)


def _done(law: Law, own_s: Floats, needed: int, others: int) -> Floats:
    """Return the share of its round an island has done when the round ends, by its own time.

    An island that is late is not among the first, so that the end is that of the others.
    """
    ends = _chances(law, needed, others)
    before = np.concatenate([[0.0], np.cumsum(ends)[:-1]])
    worked = np.concatenate([[0.0], np.cumsum(ends * own_s)[:-1]])
    return 1 - before + worked / own_s
