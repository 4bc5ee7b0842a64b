"""When nothing fits: the nearest miss, by how much, and the smallest change that would fit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from crore.cost import parameters
from crore.errors import MAX_MESSAGE_CHARS, CroreError, Infeasible
from crore.plan.axes import Axes, axes_of
from crore.plan.best import Ranked
from crore.plan.candidates import Candidates, Floats, Mask, joined, size, take
from crore.plan.network import choose_network, run_on
from crore.plan.pricing import (
    LeastBytes,
    Points,
    always_there,
    floors,
    least_bytes,
    peak_bytes,
    seconds_and_bytes,
)
from crore.plan.record import layout_record
from crore.plan.request import DAY_S, Question
from crore.plan.resolve import near_batch
from crore.plan.search import Found, Ground, search, usable_bytes
from crore.plan.space import cells_of, obeying, settings, with_chain
from crore.plan.stack_rules import UNFILLED, forbids_mode
from crore.units import format_bytes, format_count, three_digits

BYTES_PER_PARAMETER: Final = 4
"""16-bit weights and gradients, all else on the host: fewer GPUs than these need are not tried."""
BATCH_DOUBLINGS: Final = 14
GPU_DOUBLINGS: Final = 12
LOOKED_INTO: Final = 64
"""Cells tried for the nearest miss, the leanest first: some obey no rule inside."""
ROOM: Final = MAX_MESSAGE_CHARS - len("crore: ")
"""Characters of a message; a long name leaves less for the layout."""


def why_infeasible(q: Question, found: Found) -> Infeasible:
    """Return the error for a question without a plan."""
    if q.request.limits.days and not found.binding:
        unhurried = search(q)
        if unhurried.ranked:
            fastest = unhurried.ranked[0].candidate
            return _too_late(q, run_on(q, fastest, choose_network(q, fastest).machine))
    miss = None if found.binding else nearest_miss(q)
    return Infeasible(_no_layout(q, found) if miss is None else _does_not_fit(q, miss))


def shortfall(q: Question, found: Found, points: Points) -> tuple[str, float | None]:
    """Return why a question without a plan has none, and the bytes per GPU of its nearest miss.

    Unlike `why_infeasible` it does not look for what would do: other counts of a sweep tell. The
    bytes are None where a rule is in the way, not memory. `points` are those of the same question
    at other GPU counts.
    """
    miss = None if found.binding else nearest_miss(q, points)
    if miss is None:
        return _no_layout(q, found), None
    return _short_of(q, miss), miss.peak_bytes


def _too_late(q: Question, run_s: float) -> Infeasible:
    days = q.request.limits.days or 0.0
    less = max(math.floor(q.tokens * days * DAY_S / run_s), 1)
    enough = _count_in_time(q, days * DAY_S)
    more = f"{enough:,} such GPUs would do, or" if enough else "more of them would not do, but"
    return Infeasible(
        f"the fastest plan of {q.model.name} on {q.gpus:,} x {q.accelerator.name} takes "
        f"{three_digits(run_s / DAY_S)} days, over the limit of {days:g}; {more} "
        f"{format_count(less)} tokens"
    )


def _count_in_time(q: Question, deadline_s: float) -> int:
    """Return the fewest doublings of the GPUs that meet the deadline at this batch, 0 for none."""
    for doubling in range(1, GPU_DOUBLINGS + 1):
        more = q.on(q.gpus * 2**doubling)
        try:
            ranked = search(more).ranked if not more.is_fleet else []
        except CroreError:
            continue
        if not ranked:
            return 0
        fastest = ranked[0].candidate
        if run_on(more, fastest, choose_network(more, fastest).machine) <= deadline_s:
            return more.gpus
    return 0


def nearest_miss(q: Question, points: Points | None = None) -> Ranked | None:
    """Return the setting that needs least memory; None when no setting obeys the rules.

    `points` are those of the same question at other GPU counts.
    """
    axes, known_points = axes_of(q), points or Points()
    cells = cells_of(
        q, axes, lambda grid: _leanest(known_points.least(q, axes, grid, _enough(q, axes, grid)))
    )
    if not size(cells.candidates):
        return None
    index = np.arange(size(cells.candidates))
    known = LeastBytes(q, axes, cells, _enough(q, axes, cells.candidates))
    order = np.argsort(known.of(index), kind="stable")
    for cell in order[:LOOKED_INTO]:
        inside, _ = obeying(q, axes, settings(q, axes, take(cells.candidates, np.array([cell]))))
        if not size(inside):
            continue
        together = _leanest_chain(q, axes, inside)
        step_s, peak = seconds_and_bytes(q, together)
        best = int(np.argmin(peak))
        return Ranked(
            run_s=0.0, step_s=float(step_s[best]), peak_bytes=float(peak[best]),
            candidate=take(together, best),
        )  # fmt: skip
    return None


def _leanest_chain(q: Question, axes: Axes, inside: Candidates) -> Candidates:
    """Return settings in each mode and offload, with all layers recomputed where any number may."""
    chain = [
        with_chain(
            take(inside, ~forbids_mode(q, inside, mode)), mode, float(axes.recompute_layers or -1),
            offload,
        )
        for mode in axes.recompute
        for offload in axes.offload
    ]  # fmt: skip
    return joined(chain, [size(part) for part in chain])


def _enough(q: Question, axes: Axes, cells: Candidates) -> float:
    """Return bytes that as many cells as are looked into are sure not to need more of, 0 for none.

    Those that hold least throughout a step are asked; of others only what needs no more matters.
    """
    few = take(cells, np.argsort(always_there(q, axes, cells), kind="stable")[:LOOKED_INTO])
    return float(np.max(least_bytes(q, axes, few), initial=0.0))


def _leanest(least: Floats) -> Mask:
    """Tell the points that need least, as many as are looked into."""
    few = np.sort(least)[:LOOKED_INTO]
    return least <= few[-1] if few.size else np.zeros(0, dtype=bool)


def _does_not_fit(q: Question, miss: Ranked) -> str:
    change = smallest_change(q, miss)
    texts = [f"{_short_of(q, miss, said)}; {change}" for said in _details(q, miss)]
    return next((text for text in texts if len(text) <= ROOM), texts[-1])


def _short_of(q: Question, miss: Ranked, said: str = "") -> str:
    usable = usable_bytes(q)
    return (
        f"does not fit: {q.model.name} on {q.gpus:,} x {q.accelerator.name} needs at least "
        f"{format_bytes(miss.peak_bytes)} per GPU{said} of {format_bytes(usable)}, "
        f"{format_bytes(miss.peak_bytes - usable)} short"
    )


def _details(q: Question, miss: Ranked) -> tuple[str, ...]:
    """Return how the nearest miss is laid out, in ever fewer words."""
    layout = layout_record(q, miss.candidate, 1.0)
    axes = ",".join(f"{k}={layout[k]}" for k in ("tp", "pp", "cp", "ep") if layout[k] > 1)
    away = [what for what in ("optimizer", "activations") if layout[f"offload_{what}"]]
    moved = f", {' and '.join(away)} on the host" if away else ""
    details = f"{axes or 'one rank'}, {layout['zero']}, recompute {layout['recompute']}{moved}"
    return (f" ({details})", f" ({axes})" if axes else "", "")


def smallest_change(q: Question, miss: Ranked) -> str:
    """Return what would make it fit: no margin, or the GPUs from which on a plan exists."""
    if miss.peak_bytes <= q.memory_bytes:
        return "it fits without the margin: --limit memory_margin=0"
    fit = f"crore fit {q.model.name} --gpu {q.accelerator.name}"
    least = float(parameters(q.shape)) * BYTES_PER_PARAMETER / q.memory_bytes
    points = Points()
    for doubling in range(1, GPU_DOUBLINGS + 1):
        count = q.gpus * 2**doubling
        if count >= least and _fits_on(q, count, points):
            return f"{count:,} such GPUs hold it, or see {fit}"
    return f"`{fit}` shows what fits"


def _fits_on(q: Question, count: int, points: Points) -> bool:
    more = replace(q.on(count), global_batch=max(q.global_batch, near_batch(count, count)))
    try:
        return _any_fits(more, Ground(more, points))
    except CroreError:
        return False


def _any_fits(q: Question, ground: Ground) -> bool:
    """Tell whether a search would find any plan: the leanest cells first, no time is asked.

    In its chain a candidate needs least with all layers recomputed.
    """
    limit, cells = usable_bytes(q), ground.cells.candidates
    if not size(cells):
        return False
    least = ground.least.of(np.arange(size(cells)))
    order = np.argsort(least, kind="stable")[: np.count_nonzero(least <= limit)]
    for start in range(0, order.size, LOOKED_INTO):
        few = take(cells, order[start : start + LOOKED_INTO])
        inside, _ = obeying(q, ground.axes, settings(q, ground.axes, few))
        chain = _leanest_chain(q, ground.axes, inside)
        if np.any(peak_bytes(q, take(chain, floors(q, chain) <= limit)) <= limit):
            return True
    return False


def _no_layout(q: Question, found: Found) -> str:
    """Name the rule that left nothing, and a batch that would do where that is in the way."""
    pins = ",".join(f"{key}={value}" for key, value in q.request.fix.items())
    pinned = f" with --fix {pins}"[:60] if pins else ""
    where = f"no layout of {q.model.name} on {q.gpus:,} x {q.accelerator.name}{pinned}: "
    binding = found.binding or _rule_inside(q)
    binding = binding or max(found.rejected, key=lambda k: found.rejected[k], default="")
    divides = "batch" in binding and binding != UNFILLED
    batch = _batch_that_works(q) if divides else 0
    if batch not in (0, q.global_batch):
        return (
            f"{where}global batch {q.global_batch:,} does not divide; --global-batch {batch} does, "
            f"or --limit gpus={q.gpus} to use fewer"
        )
    return f"{where}{binding}; change --gpus, --global-batch ({q.global_batch:,}) or --fix"


def _rule_inside(q: Question) -> str:
    """Return the rule that left no setting inside the cells; empty where some are left."""
    axes = axes_of(q)
    if not axes.pipelines:
        known = ", ".join(q.abilities.schedules)
        return f"no schedule of stack {q.stack_name} ({known}) has the pinned chunks (vpp)"
    cells = cells_of(q, axes, lambda grid: np.ones(size(grid), dtype=bool)).candidates
    few = take(cells, slice(0, LOOKED_INTO))
    if not size(few):
        return ""
    inside, broken = obeying(q, axes, settings(q, axes, few))
    return "" if size(inside) else [*broken][-1]


def _batch_that_works(q: Question) -> int:
    """Return the next batch for which some cell obeys the rules, 0 when none is near."""
    for doubling in range(BATCH_DOUBLINGS):
        batch = near_batch(q.global_batch * 2.0**doubling, q.gpus)
        asked = replace(q, global_batch=batch)
        axes = axes_of(asked)
        if asked.precision != "fp8":  # whatever else divides does with the smallest micro-batch
            axes = replace(axes, grid={**axes.grid, "micro_batch": axes.grid["micro_batch"][:1]})
        if size(cells_of(asked, axes, lambda grid: np.ones(size(grid), dtype=bool)).candidates):
            return batch
    return 0
