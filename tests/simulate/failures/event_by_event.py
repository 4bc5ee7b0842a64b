"""Runs simulated one event at a time in plain loops: what closed forms and draws answer to.

Nothing here shares code with the package; each loop returns progress over time.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """Rates per second and times of a run that stops whole."""

    failures: float
    outages: float
    silent: float
    write_s: float
    restart_s: float
    work_s: float
    replace_s: float
    outage_s: float
    detect_s: float
    storage_every_s: float = 0.0
    """Checkpoints in memory are lost with a site."""
    reload_s: float = 0.0


def restarted(case: Restarts, cycles: int, seed: int) -> float:
    """Work, write, fail, wait, restart (which may fail too), until so many interruptions."""
    rng = np.random.default_rng(seed)
    hard = case.failures + case.outages
    now = done = 0.0

    def wait() -> float:
        if rng.random() < case.outages / hard:
            reload_s = case.reload_s + rng.uniform(0, case.storage_every_s)
            return float(rng.exponential(case.outage_s) + reload_s)
        return case.replace_s

    for _ in range(cycles):
        until = rng.exponential(1 / (hard + case.silent))
        done += np.floor(until / (case.work_s + case.write_s)) * case.work_s
        now += until
        silent = rng.random() < case.silent / (hard + case.silent)
        now += case.detect_s if silent else wait()
        while (stretch := rng.exponential(1 / hard)) < case.restart_s:
            now += stretch + wait()
        now += case.restart_s
    return float(done / now)


def elastic(failures: float, rebuild_s: float, absent_s: float, events: int, seed: int) -> float:
    """Each failure and each return of its world starts a rebuild for all anew; share of time up."""
    drops = np.cumsum(np.random.default_rng(seed).exponential(1 / failures, events))
    changes = np.sort(np.concatenate([drops, drops + absent_s]))
    gaps = np.diff(changes)
    return float(np.maximum(gaps - rebuild_s, 0).sum() / gaps.sum())


def quorum(
    failures: float, stall_s: float, worlds: int, absent_s: float, events: int, seed: int
) -> float:
    """A failure stalls all and takes its world away for `absent_s` of working time."""
    rng = np.random.default_rng(seed)
    worked = useful = now = 0.0
    back: list[tuple[float, int]] = []
    away: set[int] = set()

    def work(until: float) -> None:
        nonlocal worked, useful
        while back and back[0][0] <= until:
            at, world = heapq.heappop(back)
            useful += (at - worked) * (1 - len(away) / worlds)
            worked = at
            away.discard(world)
        useful += (until - worked) * (1 - len(away) / worlds)
        worked = until

    for _ in range(events):
        up = rng.exponential(1 / failures)
        work(worked + up)
        now += up + stall_s
        world = int(rng.integers(worlds))
        if world not in away:
            away.add(world)
            heapq.heappush(back, (worked + absent_s, world))
    return useful / now


def islands(
    failures: float, stall_s: float, round_s: float, wait_for: int, of: int, rounds: int, seed: int
) -> float:
    """Each island's failures arrive one by one while it works; a round ends with `wait_for`."""
    rng = np.random.default_rng(seed)
    time = work = 0.0
    for _ in range(rounds):
        own = []
        for _island in range(of):
            took, left = round_s, round_s
            while (up := rng.exponential(1 / failures)) < left:
                left -= up
                took += stall_s
            own.append(took)
        end = sorted(own)[wait_for - 1]
        time += end
        work += round_s * float(np.mean([min(1.0, end / one) for one in own]))
    return work / time


@dataclass(frozen=True, kw_only=True)
class Slow:
    """Stragglers of one island."""

    arrivals: float
    """Per second of running without one."""
    slowdown: float
    evict_s: float


def slowed(case: Slow, round_s: float, of: int, rounds: int, seed: int) -> float:
    """Islands of which some are slow, for as long as it takes; a barrier after every round.

    The state of an island goes on from round to round, only while it works.
    """
    rng = np.random.default_rng(seed)
    state = [(False, float(rng.exponential(1 / case.arrivals))) for _ in range(of)]
    time = 0.0
    for _ in range(rounds):
        done = [_one_round(case, round_s, *one, rng) for one in state]
        state = [(slow, until) for _, slow, until in done]
        time += max(took for took, _, _ in done)
    return rounds * round_s / time


def _one_round(
    case: Slow, work: float, slow: bool, until: float, rng: np.random.Generator
) -> tuple[float, bool, float]:
    """Return (seconds taken, slow at the end, seconds left of that state)."""
    took = 0.0
    while until <= work * (pace := case.slowdown if slow else 1.0):
        took, work, slow = took + until, work - until / pace, not slow
        until = case.evict_s if slow else float(rng.exponential(1 / case.arrivals))
    return took + work * pace, slow, until - work * pace


def short_of_spares(
    rate: float, repair_s: float, spares: int, worlds: int, machines: int, events: int, seed: int
) -> float:
    """Machines break one by one and come back; as few worlds as can stand still, the rest work."""
    rng = np.random.default_rng(seed)
    now = lost = 0.0
    back: list[float] = []
    per_world = machines // worlds

    def still() -> float:
        short = max(len(back) - spares, 0)
        return min(-(-short // per_world), worlds) / worlds

    for _ in range(events):
        at = now + float(rng.exponential(1 / rate))
        while back and back[0] <= at:
            lost += (back[0] - now) * still()
            now = heapq.heappop(back)
        lost += (at - now) * still()
        now = at
        heapq.heappush(back, now + repair_s)
    return lost / now
