"""Rates of a group of GPUs that step together, and shares of the fleet that are away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.simulate.failures.params import Checkpoint, Policy, Run

TINY: Final = 1e-30
"""Stands for no hazard where a rate is divided by; nothing happens in 1e30 s."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What happens to a group, per second."""

    failures: float
    silent: float
    evictions: float
    """Stragglers evicted, per second of running."""
    slow: float
    """Share of the work that is done while a straggler is in the group."""


def rates(run: Run, gpus: float) -> Rates:
    """Return the rates of a group of so many GPUs.

    A straggler arrives in 1/rate seconds, holds all up for `evict_s` and leaves: an alternating
    renewal process, of whose work a/(1/rate + a) is slow, a = evict_s/slowdown.
    """
    slow = run.straggling
    arrivals = run.hazard * slow.per_gpu_s * gpus
    done = arrivals * slow.evict_s / slow.slowdown
    return Rates(
        failures=run.hazard * run.failures_per_gpu_s * gpus,
        silent=run.hazard * run.silent.per_gpu_s * gpus,
        evictions=arrivals / (1 + arrivals * slow.evict_s),
        slow=done / (1 + done),
    )


def site_outages(run: Run) -> float:
    """Return outages of any site per second."""
    return run.islands / run.sites.every_s


def checkpoint_of(run: Run, policy: Policy) -> Checkpoint:
    """Return what a policy that restarts all GPUs takes."""
    return {"restart-disk": run.disk, "restart-peer": run.peer, "hot-spares": run.hot}[policy]


def wait_for_machine_s(run: Run, policy: Policy) -> float:
    """Return seconds that all wait, on average of failures, until a broken machine is replaced."""
    return 0.0 if policy == "hot-spares" else run.permanent * run.spares.replace_s


def outage_s(run: Run, policy: Policy) -> float:
    """Return mean seconds that a site outage takes from all GPUs of a policy that restarts them.

    Checkpoints in memory go with the site: those in storage are half of `storage_every_s` old.
    """
    reload_s = run.storage_every_s / 2 + run.disk.restart_s
    return run.sites.away_s + (0.0 if policy == "restart-disk" else reload_s)


def absence(run: Run) -> float:
    """Return seconds that a world is away for failures, per second it is there.

    A world goes down with any part of it, or with the domain around it where that is larger:
    `κ·Σ λ·max(G, domain)·absent_s`.
    """
    hit = sum(h.per_gpu_s * max(run.world_gpus, h.domain_gpus) for h in run.hazards)
    return run.hazard * hit * run.absent_s


def in_repair(run: Run) -> float:
    """Return the mean number of permanent failures in repair at one island (Little's law)."""
    failures = rates(run, run.gpus / run.islands).failures
    return failures * run.permanent * run.spares.repair_s


def missing_share(run: Run, broken: Floats) -> Floats:
    """Return the share of an island's GPUs that stand still when so many repairs are open.

    Broken machines beyond the spares are put together in as few worlds as hold them.
    """
    gpus = run.gpus / run.islands
    short = np.maximum(broken * run.spares.drain_gpus - run.spares.share * gpus, 0.0)
    return np.minimum(np.ceil(short / run.world_gpus) * run.world_gpus / gpus, 1.0)


def poisson(mean: float, points: int = 1 << 20) -> tuple[Floats, Floats]:
    """Return (counts, chances) of a Poisson variable but for 1e-16, in at most so many points.

    Counts beyond that many are taken together in equal runs, each at its own mean.
    """
    spread = 9 * np.sqrt(mean) + 25
    counts = np.arange(max(0.0, np.floor(mean - spread)), np.ceil(mean + spread))
    if mean <= 0:
        return np.zeros(1), np.ones(1)
    log = np.concatenate([[0.0], np.cumsum(np.log(mean / counts[1:]))])
    chances = np.exp(log - log.max())
    chances /= chances.sum()
    run_length = -(-counts.size // points)
    if run_length > 1:
        starts = np.arange(0, counts.size, run_length)
        together = np.add.reduceat(chances, starts)
        weighted = np.add.reduceat(chances * counts, starts)
        counts, chances = weighted / np.maximum(together, 1e-300), together
    keep = chances > 1e-18
    return counts[keep], chances[keep]


def expected_missing(run: Run) -> float:
    """Return the share of the fleet that stands still for want of spares, on average."""
    broken, chance = poisson(in_repair(run))
    return float(missing_share(run, broken) @ chance)
