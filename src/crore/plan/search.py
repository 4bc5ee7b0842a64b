"""Price every layout that obeys the rules; keep the fastest that fits, and why the rest fell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crore.cost import (
    Job,
    Layout,
    Memory,
    StepTime,
    fitted_constants,
    memory,
    operations,
    step_time,
)
from crore.cost.layout import MOMENT_BYTES
from crore.cost.machine import Machine, machine_of, machine_on_fabric
from crore.plan.request import Question
from crore.plan.space import apply_rules, enumerate_layouts, take

BLOCK = 32_768
"""Candidates priced in one call: large enough to amortise the calls, small enough for the cache."""
MARGIN = 0.04
"""Share of a predicted peak kept free where possible: most measured peaks lie this close."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The outcome of a search."""

    layout: Layout | None
    """The chosen candidate: the fastest that fits, else the one nearest to fitting; None when no
    candidate obeys the rules."""
    fits: bool
    tight: bool
    """It fits only without MARGIN."""
    candidates: int
    """Combinations enumerated."""
    priced: int
    """Of these, the ones that obey every rule: each got a full time and memory."""
    rejected: dict[str, int]
    """Reason -> how many candidates fell to it first."""
    binding: str = ""
    """The rule that left no candidate, when none is left."""


def job_for(q: Question, layout: Layout) -> Job:
    """Return the job of one or N layouts of a question.

    Raises InputError when the accelerator lacks the precision.
    """
    muon = q.request.fix.get("optimizer") == "muon"
    return Job(
        shape=q.shape, layout=layout, machine=_machine(q),
        stack=q.stack, seq_len=float(q.seq_len), global_batch=float(q.global_batch),
        optimizer_bytes=float(q.stack.optimizer_bytes) - MOMENT_BYTES if muon else -1.0,
    )  # fmt: skip


def _machine(q: Question) -> Machine:
    """The accelerator on its cluster's or its fabric's network, or with its own NIC."""
    node = q.cluster.node_size if q.cluster else 0
    network = q.cluster.nic_bytes_per_s if q.cluster else 0.0
    if q.fabric is None:
        return machine_of(q.accelerator, q.precision, node_size=node, nic_bytes_per_s=network)
    return machine_on_fabric(
        q.accelerator, q.fabric, q.precision, node_size=node, nic_bytes_per_s=network
    )


def price(q: Question, layout: Layout) -> tuple[Job, StepTime, Memory]:
    """Return job, time and memory of one or N layouts."""
    job = job_for(q, layout)
    ops = operations(job)
    return job, step_time(job, fitted_constants(), ops), memory(job, ops)


def _price_blocks(q: Question, layout: Layout, count: int) -> tuple[Floats, Floats]:
    """Return (step seconds, peak bytes) of `count` candidates, block by block."""
    seconds, peak = np.empty(count), np.empty(count)
    for start in range(0, count, BLOCK):
        part = slice(start, min(start + BLOCK, count))
        _, time, held = price(q, take(layout, part))
        seconds[part], peak[part] = time.step_s, held.peak_bytes
    return seconds, peak


def search(q: Question) -> Found:
    """Return the best layout and why the others fell; `priced` is 0 when none obeys the rules."""
    space = enumerate_layouts(q)
    alive, fallen = apply_rules(q, space.layout)
    rejected = dict(space.rejected)
    for reason, count in fallen.items():
        rejected[reason] = rejected.get(reason, 0) + count
    priced = int(np.count_nonzero(alive))
    if not priced:
        return Found(
            layout=None, fits=False, tight=False, candidates=space.total, priced=0,
            rejected=rejected, binding=[*space.rejected, *fallen][-1],
        )  # fmt: skip
    obeying = take(space.layout, alive)
    seconds, peak = _price_blocks(q, obeying, priced)
    capacity = q.accelerator.memory_bytes
    fits = peak <= capacity
    safe = peak * (1 + MARGIN) <= capacity
    if over := int(np.count_nonzero(~fits)):
        rejected["does not fit in memory"] = over
    if tight := int(np.count_nonzero(fits & ~safe)):
        rejected[f"fits with less than {MARGIN:.0%} to spare"] = tight
    among = safe if safe.any() else fits
    best = int(np.argmin(np.where(among, seconds, np.inf)) if among.any() else np.argmin(peak))
    return Found(
        layout=take(obeying, best), fits=bool(fits.any()),
        tight=bool(fits.any() and not safe.any()), candidates=space.total, priced=priced,
        rejected=rejected,
    )  # fmt: skip
