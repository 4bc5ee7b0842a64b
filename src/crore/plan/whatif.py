"""What if: one more step in each direction from a plan, and what each would give.

A direction of the layout is taken with everything else chosen again; a resource is doubled with the
layout kept, so its gain is the least it would give. Like is compared with like: layouts and GPU
counts on the search's network, resources on the plan's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from crore.cost.machine import Machine
from crore.errors import CroreError
from crore.plan.axes import Axes, axes_of
from crore.plan.best import Best
from crore.plan.candidates import Candidates, joined, size
from crore.plan.fleet import run_s
from crore.plan.network import run_on
from crore.plan.objectives import round_counts
from crore.plan.pricing import timed
from crore.plan.request import Question
from crore.plan.search import Found, open_cells, search
from crore.plan.space import Cells, cells_of

DIRECTIONS: Final = ("tp", "pp", "cp", "ep", "micro_batch")
RESOURCES: Final[dict[str, tuple[str, ...]]] = {
    "FLOP/s x 2": ("half_peak", "half_measured", "linear_peak", "linear_measured"),
    "memory bandwidth x 2": ("memory_bytes_per_s",),
    "scale-up bandwidth x 2": ("domain_bytes_per_s",),
    "scale-up domain x 2": ("domain_size",),
    "network bandwidth x 2": ("nic_bytes_per_s",),
}
"""Resource -> columns of the machine."""
FAR: Final = 2.0
"""A step that makes the run this many times as long is not looked into further."""
TRIES: Final = 8
"""Values of an axis tried in one direction until one divides what it must."""
QUICK: Final = 50_000
"""Settings priced up to which a search is made again for twice and half the GPUs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WhatIf:
    """One step away from a plan."""

    step: str
    """What changes: `tp 8 -> 16`, `network bandwidth x 2`, `GPUs x 2`."""
    run_s: float | None
    """Until the last token; None where nothing of the kind fits or divides."""
    ratio: float | None
    """Of that to the plan's."""
    note: str = ""


def what_if(
    q: Question, chosen: Candidates, plan_run_s: float, machine: Machine, priced: int
) -> tuple[WhatIf, ...]:
    """Return every step that can be taken, those of the layout first.

    `machine` is what the plan was priced on, `priced` how many settings its search priced: GPU
    counts are searched again where those are few.
    """
    searched_s = run_on(q, chosen)
    found = [*_neighbours(q, chosen, searched_s), *_resources(q, chosen, machine, plan_run_s)]
    if priced <= QUICK and not q.is_fleet:
        found += _counts(q, searched_s)
    return tuple(
        WhatIf(step=step, ratio=ratio, note=note,
               run_s=None if ratio is None else ratio * plan_run_s)
        for step, ratio, note in found
    )  # fmt: skip


Step = tuple[str, float | None, str]
"""Name, run time over the plan's, note."""


def _neighbours(q: Question, chosen: Candidates, searched_s: float) -> Iterator[Step]:
    """Yield the next value each way of each axis, everything inside the cell chosen again."""
    axes = axes_of(q)
    here = {name: int(float(getattr(chosen.layout, name))) for name in axes.grid}
    for name in DIRECTIONS:
        for values in _ways(axes, name, here[name]):
            yield from _first_that_divides(q, axes, here, name, values, chosen, searched_s)


def _first_that_divides(
    q: Question,
    axes: Axes,
    here: dict[str, int],
    name: str,
    values: list[int],
    chosen: Candidates,
    searched_s: float,
) -> Iterator[Step]:
    """Yield the nearest value of an axis, in one direction, that some layout can have."""
    for value in values[:TRIES]:
        cells = _cells_at(q, axes, here | {name: value}, chosen).candidates
        if not size(cells):
            continue
        found = Found(best=Best(top=1, ceiling_s=FAR * searched_s))
        open_cells(q, axes, cells, found)
        step = f"{name.replace('_', '-')} {here[name]} -> {value}"
        ratio = found.ranked[0].run_s / searched_s if found.ranked else None
        yield step, ratio, "" if ratio else f"unfit, or {FAR:g} x as long"
        return


def _ways(axes: Axes, name: str, here: int) -> list[list[int]]:
    """Return the values below and above the chosen one, nearest first."""
    values = sorted(axes.grid[name])
    return [[v for v in reversed(values) if v < here], [v for v in values if v > here]]


def _cells_at(q: Question, axes: Axes, point: dict[str, int], chosen: Candidates) -> Cells:
    """Return the cells of one grid point, etp following tp where it did, in as many islands."""
    tp, etp = float(chosen.layout.tp), float(chosen.layout.etp)
    if etp == tp > 1:
        point = point | {"etp": point["tp"]}
    if point["tp"] == 1:
        point = point | {"sequence_parallel": 0}
    elif tp == 1:
        point = point | {"sequence_parallel": 1}
    grid = {name: [value] for name, value in point.items()}
    kept = replace(axes, grid=grid)
    pins = {**q.request.fix, "islands": int(float(chosen.islands))}
    asked = replace(q, request=replace(q.request, fix=pins))
    return cells_of(asked, kept, lambda points: np.ones(size(points), dtype=bool))


def _resources(
    q: Question, chosen: Candidates, machine: Machine, plan_run_s: float
) -> Iterator[Step]:
    """Yield the plan's own layout with one resource doubled; power is taken to follow FLOP/s."""
    if machine.measured is not None:  # priced by its tables: there is no rate to double
        return
    count = len(RESOURCES)
    columns = {column for names in RESOURCES.values() for column in names}
    doubled: dict[str, Any] = {
        column: float(np.asarray(getattr(machine, column)))
        * np.array([2.0 if column in names else 1.0 for names in RESOURCES.values()])
        for column in columns
    }
    time = timed(q, chosen, replace(machine, **doubled))
    seconds = np.broadcast_to(np.asarray(time.step_s, dtype=float), (count,))
    wide = joined([chosen] * count, [1] * count)
    for name, run in zip(RESOURCES, run_s(q, wide, seconds), strict=True):
        yield name, float(run) / plan_run_s, "same layout"
    larger = run_on(q, replace(chosen, batch=2 * chosen.batch), machine)
    yield "global batch x 2", larger / plan_run_s, "same layout; tokens may buy less"


def _counts(q: Question, searched_s: float) -> Iterator[Step]:
    """Yield other GPU counts, searched again at the same batch.

    Twice and half of them and, below a count with few factors, the next that has many: fewer GPUs
    that divide well can be faster.
    """
    counts = {"GPUs x 2": 2 * q.gpus, "GPUs / 2": q.gpus // 2}
    rounder = max((n for n in round_counts(q, q.gpus) if n <= q.gpus), default=q.gpus)
    if rounder < q.gpus:
        counts[f"GPUs {q.gpus:,} -> {rounder:,}"] = rounder
    for name, count in counts.items():
        if count < 1 or count > q.world_limit:
            continue
        try:
            best = search(q.on(count)).ranked
        except CroreError:
            continue
        ratio = best[0].run_s / searched_s if best else None
        yield name, ratio, "" if best else "nothing fits or divides"
