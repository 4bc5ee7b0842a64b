"""Worlds, islands and the share of time they make progress: the part of a plan above one layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from crore.cost.arrays import Num
from crore.cost.goodput import DISK, PEER_MEMORY, quorum_goodput, restart_goodput
from crore.cost.islands import diloco_efficiency, islands_goodput, outer_bytes
from crore.cost.shape import parameters
from crore.plan.candidates import Candidates, Floats, distinct, uniform
from crore.plan.request import Question

ISLAND_COUNTS: Final = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64, 80, 100)
"""Islands tried when neither the mission nor a cluster says how many sites there are."""
LARGEST_ISLAND: Final = 524_288
"""GPUs of one site: what two tiers of 102.4T switches reach on 8 planes of 100 Gbit/s; about what
1-2 GW feed (Epoch AI, Can AI scaling continue through 2030: 1-5 GW campuses)."""
STALL_S: Final = 10.0
"""Every world of an island waits so long while a quorum forms without the failed one; estimate."""
ABSENT_S: Final = 600.0
"""A world is away this long: restart and heal from a peer; estimate."""
POLICY: Final = "quorum"
"""Islands go on when nine in ten have finished a round; free-running islands gain more, at an
unknown price in loss."""
INTERVALS: Final = (50, 100, 200, 500)
"""Inner steps between outer steps, shortest first (500 in arXiv 2311.08105, 30-100 in
2501.18512)."""
OUTER_BITS: Final = (16, 8, 4)
"""Bits of an outer gradient, widest first (4 bits: arXiv 2501.18512)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounds:
    """How a fleet's islands meet; floats or `[N]`."""

    interval: Num
    """Inner steps between outer steps; 1 for one island."""
    bits: Num
    """Of an outer gradient; 0 for one island."""
    outer_s: Num
    """Sending one outer gradient over an island's share of the network between sites."""
    exposed_s: Num
    """Of that, what does not fit behind the round's inner steps."""


def island_counts(q: Question) -> tuple[int, ...]:
    """Return the numbers of islands to try: pinned, whole islands per site, or the usual ones."""
    pinned = q.request.fix.get("islands")
    if pinned is not None:
        return (int(pinned),)
    if not q.is_fleet or "islands" not in q.abilities.recovery:
        return (1,)
    if q.sites:
        return tuple(q.sites * k for k in (1, 2, 4) if q.sites * k <= q.gpus)
    largest = min(LARGEST_ISLAND, _reach(q))
    fits = [m for m in ISLAND_COUNTS if q.gpus // m <= largest]
    return tuple(fits) or (-(-q.gpus // largest),)


def _reach(q: Question) -> int:
    return q.fabric.max_endpoints if q.fabric and q.fabric.max_endpoints else LARGEST_ISLAND


def wan_bytes_per_s(q: Question, candidates: Candidates) -> Num:
    """Return what one island sends to others: its GPUs' shares of the network between sites."""
    return q.wan.port_bytes_per_s * candidates.layout.gpus


def rounds_of(q: Question, candidates: Candidates, step_s: Num) -> Rounds:
    """Return the sync interval and its bits: the shortest and widest that hide behind the steps.

    Outer gradients are streamed in fragments while the next round computes (arXiv 2501.18512), so
    one round's inner steps hide them. Where nothing hides, the longest and narrowest is taken and
    the rest is waited for.
    """
    one = np.equal(candidates.islands, 1)
    if np.all(one):
        none = np.zeros(np.broadcast_shapes(np.shape(step_s), np.shape(one)))
        return Rounds(interval=none + 1, bits=none, outer_s=none, exposed_s=none)
    rate = wan_bytes_per_s(q, candidates)
    total = parameters(q.shape)
    options = [(h, b) for h in _pinned(q, "interval", INTERVALS) for b in _bits(q)]
    interval, bits = (np.full(np.shape(step_s), float(value)) for value in options[-1])
    outer = outer_bytes(total, candidates.islands, bits) / rate + q.wan.hop_latency_s
    for h, b in reversed(options):
        sent_s = outer_bytes(total, candidates.islands, float(b)) / rate + q.wan.hop_latency_s
        hidden = sent_s <= h * step_s
        interval = np.where(hidden, h, interval)
        bits = np.where(hidden, b, bits)
        outer = np.where(hidden, sent_s, outer)
    exposed = np.maximum(outer - interval * step_s, 0.0)
    return Rounds(
        interval=np.where(one, 1.0, interval), bits=np.where(one, 0.0, bits),
        outer_s=np.where(one, 0.0, outer), exposed_s=np.where(one, 0.0, exposed),
    )  # fmt: skip


def _pinned(q: Question, key: str, values: tuple[int, ...]) -> tuple[int, ...]:
    pinned = q.request.fix.get(key)
    return values if pinned is None else (int(pinned),)


def _bits(q: Question) -> tuple[int, ...]:
    return _pinned(q, "outer_bits", OUTER_BITS)


def recovery_of(q: Question) -> str:
    """Name how the plan survives a failure: the best that its stack can do at this size."""
    if q.is_fleet:
        return "quorum"
    return "peer" if "peer" in q.abilities.recovery else "disk"


def goodput(q: Question, candidates: Candidates, round_s: Num) -> Num:
    """Return the share of time that makes progress, by the plan's recovery policy."""
    how = recovery_of(q)
    island = candidates.layout.gpus
    if how != "quorum":
        island, policy = uniform(island), PEER_MEMORY if how == "peer" else DISK
        return _alone(island, *policy) if np.ndim(island) == 0 else restart_goodput(island, *policy)
    world = island / candidates.worlds
    waits = {"stall_s": STALL_S, "absent_s": ABSENT_S}
    alone = quorum_goodput(island, world, **waits)
    many = np.greater(candidates.islands, 1)
    if not np.any(many):
        return alone
    everyone = island * candidates.islands
    fleet = islands_goodput(everyone, candidates.islands, world, round_s, POLICY, **waits)
    return np.where(many, fleet, alone)


@lru_cache(maxsize=256)
def _alone(gpus: float, checkpoint_s: float, restart_s: float) -> Num:
    """Return `restart_goodput` of one world: every block of its search asks for the same."""
    return restart_goodput(gpus, checkpoint_s, restart_s)


def goodput_bound(q: Question, candidates: Candidates) -> Num:
    """Return a share that `goodput` never exceeds, whatever the step time: no island waits."""
    if recovery_of(q) != "quorum":
        return goodput(q, candidates, 1.0)
    island = candidates.layout.gpus
    return quorum_goodput(island, island / candidates.worlds, stall_s=STALL_S, absent_s=ABSENT_S)


def learning_efficiency(q: Question, islands: Num) -> tuple[Num, Num, Num]:
    """Return (low, middle, high) progress per token over a run in step everywhere."""
    if np.ndim(islands) == 0:
        return diloco_efficiency(parameters(q.shape), islands)
    few, where = distinct(np.asarray(islands))
    low, middle, high = (np.asarray(x) for x in diloco_efficiency(parameters(q.shape), few))
    return low[where], middle[where], high[where]


def run_s(q: Question, candidates: Candidates, step_s: Num) -> Floats:
    """Return seconds until the last token, failures and outer steps included, `[N]`."""
    rounds = rounds_of(q, candidates, step_s)
    # Not `interval · step + exposed`: plans that all wait for the outer step are to tie exactly.
    round_s = np.maximum(rounds.interval * step_s, rounds.outer_s)
    steps = q.tokens / (candidates.batch * candidates.islands * q.seq_len)
    useful = goodput(q, candidates, round_s) * learning_efficiency(q, candidates.islands)[1]
    total: Floats = np.asarray(steps * round_s / rounds.interval / useful, dtype=float)
    return total


def run_bound_s(q: Question, candidates: Candidates, step_s: Num) -> Floats:
    """Return a time that `run_s` never undercuts for any step at least `step_s` long."""
    steps = q.tokens / (candidates.batch * candidates.islands * q.seq_len)
    useful = goodput_bound(q, candidates) * learning_efficiency(q, candidates.islands)[1]
    total: Floats = np.asarray(steps * step_s / useful, dtype=float)
    return total
