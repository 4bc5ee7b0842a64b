"""Exact search by bounds: best cells first, until no cell left can beat what is found.

1. Cells are ordered by a run time that nothing inside them undercuts (`run_bounds_s`); one whose
   least memory does not fit falls whole (`least_bytes`).
2. Settings inside a cell are priced with nothing recomputed or offloaded: nothing is faster, so
   one that fits dominates its whole chain, and one that is too slow takes its chain with it.
3. Only settings that are fast enough and do not fit walk their chain: each mode, and of full
   recompute the fewest layers that fit (time rises and memory falls with every further layer).

Nothing here can cut the optimum: `tests/plan/test_exact.py` holds it against pricing everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crore.plan.axes import Axes, axes_of
from crore.plan.best import Best, Ranked, leading
from crore.plan.candidates import Candidates, Floats, Mask, joined, size, take
from crore.plan.chain import Chain, Tried
from crore.plan.chain_times import NEAR
from crore.plan.fleet import run_bound_s, run_s
from crore.plan.pricing import LeastBytes, Points, floors, peak_bytes, run_bounds_s, seconds
from crore.plan.request import Question
from crore.plan.space import (
    NO_MEMORY,
    Cells,
    Counts,
    cells_of,
    chain_lengths,
    obeying,
    rules_inside,
    settings,
    settings_per_cell,
)
from crore.plan.stack_rules import BACK_TWICE_REASON

OPENED = 512
"""Cells whose settings are written together."""
FIRST_CELLS = 128
"""Cells opened first; each further batch is twice as large."""
MOST_CELLS = 65_536
CHAIN_BLOCK = 512
"""Settings that walk their chain together first, fastest first; each further block is eight times
as large: the first find what cuts the others, and a large block costs little more than a small."""
MOST_CHAINS = 32_768
TOO_SLOW = "slower than the best found, by bound"
DOMINATED = "a faster setting of the same layout fits"
Watch = Callable[[float, "Found"], None]


@dataclass(kw_only=True, slots=True)
class Found:
    """The outcome of a search, and its state while it runs."""

    best: Best
    candidates: int = 0
    """Settings in the space."""
    evaluated: int = 0
    """Of these, the ones that got a full time and memory."""
    kept: int = 0
    """Of these, the ones that fit and were the best so far of their family, or could be."""
    rejected: Counts = field(default_factory=dict)
    """Reason -> settings that fell to it."""
    binding: str = ""
    """The rule that left no cell, when none is left."""
    interrupted: bool = False
    """Stopped by the user: the best so far, not the best."""
    fruitless: bool = False
    """Nothing better was found when a chain was last walked."""

    def fell(self, reason: str, count: float) -> None:
        """Count settings that fell."""
        if count > 0:
            self.rejected[reason] = self.rejected.get(reason, 0) + int(count)

    @property
    def ranked(self) -> list[Ranked]:
        """The best plans, fastest first; empty when nothing fits."""
        return self.best.ranked()


def usable_bytes(q: Question) -> float:
    """Return the predicted peak up to which a plan counts as fitting."""
    return q.memory_bytes / (1 + q.request.limits.memory_margin)


class Ground:
    """The cells of a question and bounds on each; it serves less memory and other limits too."""

    def __init__(self, q: Question, points: Points | None = None) -> None:
        """`points` are those of the same question at other GPU counts."""
        self._q, self.axes, limit = q, axes_of(q), usable_bytes(q)
        known = points or Points()
        self.cells = cells_of(q, self.axes, lambda grid: known.roomy(q, self.axes, grid, limit))

    @cached_property
    def bound_s(self) -> Floats:
        """Run time that no setting inside each cell undercuts."""
        return run_bounds_s(self._q, self.axes, self.cells)

    @cached_property
    def least(self) -> LeastBytes:
        """Peak bytes that no setting inside each cell undercuts."""
        return LeastBytes(self._q, self.axes, self.cells, usable_bytes(self._q))


def search(
    q: Question, watch: Watch | None = None, ceiling_s: float = math.inf,
    ground: Ground | None = None,
) -> Found:  # fmt: skip
    """Return the fastest plans that fit, `request.top` of them, and why the others fell.

    None takes longer than `ceiling_s`. `watch` is called after every batch of cells with the share
    of cells done. Ctrl-C ends the search with the best found so far. `ground` is that of the same
    question with at least as much memory, where it is known.
    """
    ground = ground or Ground(q)
    cells = ground.cells
    found = Found(
        best=Best(top=q.request.top, ceiling_s=ceiling_s),
        candidates=cells.total,
        rejected=dict(cells.rejected),
        binding=cells.binding,
    )  # fmt: skip
    if not size(cells.candidates):
        return found
    try:
        _best_first(q, ground, found, watch)
    except KeyboardInterrupt:
        if not found.ranked:
            raise
        found.interrupted = True
    return found


def _best_first(q: Question, ground: Ground, found: Found, watch: Watch | None) -> None:
    axes, cells, bound = ground.axes, ground.cells, ground.bound_s
    order = np.argsort(bound, kind="stable")
    limit = usable_bytes(q)
    start, batch = 0, FIRST_CELLS
    while start < order.size:
        index = order[start : start + batch]
        start, batch = start + batch, min(2 * batch, MOST_CELLS)
        hopeful = index[bound[index] <= found.best.threshold_s]
        _count_cells(q, axes, cells, index, hopeful, found)
        if not hopeful.size:
            rest = order[start:]
            _count_cells(q, axes, cells, rest, rest[:0], found)
            return
        roomy = ground.least.of(hopeful) <= limit
        tight = take(cells.candidates, hopeful[~roomy])
        found.fell(NO_MEMORY, float(np.sum(settings_per_cell(q, axes, tight))))
        if roomy.any():
            open_cells(q, axes, take(cells.candidates, hopeful[roomy]), found)
        if watch is not None:
            watch(min(start / order.size, 1.0), found)


def _count_cells(
    q: Question,
    axes: Axes,
    cells: Cells,
    index: NDArray[np.intp],
    kept: NDArray[np.intp],
    found: Found,
) -> None:
    """Count the settings of cells that are cut by their bound."""
    if index.size > kept.size:
        cut = take(cells.candidates, np.setdiff1d(index, kept, assume_unique=True))
        found.fell(TOO_SLOW, float(np.sum(settings_per_cell(q, axes, cut))))


def _settings_that_obey(q: Question, axes: Axes, cells: Candidates) -> tuple[Candidates, Counts]:
    """Return `obeying` of all `settings` of cells, few cells at a time: most settings fall."""
    kept: list[Candidates] = []
    fallen: Counts = {}
    for zero in axes.zero:
        one = replace(axes, zero=[zero])
        for start in range(0, size(cells), OPENED):
            part = take(cells, slice(start, start + OPENED))
            inside, broken = obeying(q, axes, settings(q, one, part))
            kept.append(inside)
            for reason, count in broken.items():
                fallen[reason] = fallen.get(reason, 0) + count
    order = [reason for reason, _ in rules_inside(q, axes, take(kept[0], slice(0, 0)))]
    told = {name: fallen[name] for name in (*order, BACK_TWICE_REASON) if name in fallen}
    return joined(kept, [size(part) for part in kept]), told


def open_cells(q: Question, axes: Axes, cells: Candidates, found: Found) -> None:
    """Price the settings of cells that could hold the best, and walk the chains that matter."""
    inside, broken = _settings_that_obey(q, axes, cells)
    for reason, count in broken.items():
        found.fell(reason, count)
    if not size(inside):
        return
    step_s = seconds(q, inside)
    chains = chain_lengths(q, axes, inside)
    bound = run_bound_s(q, inside, step_s)
    fast = bound <= found.best.threshold_s
    found.fell(TOO_SLOW, float(np.sum(chains[~fast])))
    inside, step_s, chains, bound = take(inside, fast), step_s[fast], chains[fast], bound[fast]
    fits = np.zeros(step_s.size, dtype=bool)
    if 0 in axes.recompute and 0 in axes.offload:  # else it is a bound alone, and no candidate
        fits, peak = _fitting(q, inside, found)
        _keep(q, take(inside, fits), step_s[fits], peak, chains[fits], found)
    rest = np.flatnonzero(~fits)
    rest = rest[np.argsort(bound[rest], kind="stable")]
    _walk_chains(q, axes, take(inside, rest), bound[rest], found)


def _walk_chains(
    q: Question, axes: Axes, candidates: Candidates, bound: Floats, found: Found
) -> None:
    """Walk the chains of candidates that do not fit themselves, fastest first, block by block.

    Where the last walk found nothing, that of two blocks is priced at once: most likely the first
    cuts nothing of the second.
    """
    lengths = chain_lengths(q, axes, candidates)
    place = np.arange(bound.size)
    at, length, priced = 0, CHAIN_BLOCK, 0
    while at < bound.size:
        more = min(8 * length, MOST_CHAINS)
        threshold_s = found.best.threshold_s
        end = at + length
        block = (place >= at) & (place < end)
        near = block & (bound <= threshold_s)
        found.fell(TOO_SLOW, float(np.sum(lengths[block]) - np.sum(lengths[near])))
        if near.any():
            if at >= priced:
                priced = end + (more if found.fruitless else 0)
                known = np.flatnonzero((place >= at) & (place < priced) & (bound <= threshold_s))
                chain = Chain(q, axes, take(candidates, known), usable_bytes(q), threshold_s)
            _walk_chain(q, axes, chain, near[known], float(np.sum(lengths[near])), found)
            found.fruitless = found.best.threshold_s == threshold_s
        at, length = end, more


def _fitting(q: Question, candidates: Candidates, found: Found) -> tuple[Mask, Floats]:
    """Return which candidates fit, and the peaks of these."""
    limit = usable_bytes(q)
    fits = floors(q, candidates) <= limit
    found.evaluated += int(np.count_nonzero(fits))
    peak = peak_bytes(q, take(candidates, fits))
    fits[fits] = peak <= limit
    return fits, peak[peak <= limit]


def _keep(
    q: Question, candidates: Candidates, step_s: Floats, peak: Floats, chains: Floats, found: Found
) -> None:
    """Take in candidates that fit; each is the fastest of the `chains` settings it stands for."""
    threshold_s = found.best.threshold_s
    near = run_bound_s(q, candidates, step_s) <= threshold_s
    close = take(candidates, near)
    run = run_s(q, close, step_s[near])
    fast = run <= threshold_s
    found.best.add(take(close, fast), run[fast], step_s[near][fast], peak[near][fast])
    kept = np.count_nonzero(fast)
    found.kept += int(kept)
    found.fell(TOO_SLOW, float(np.sum(chains) - np.sum(chains[near][fast])))
    found.fell(DOMINATED, float(np.sum(chains[near][fast]) - kept))


def _keep_near(q: Question, chain: Chain, tried: Sequence[Tried], found: Found) -> None:
    """Take in settings of a chain that fit, whose times are nearly known."""
    links = joined([it.links for it in tried], [it.near_s.size for it in tried])
    near_s = np.concatenate([it.near_s for it in tried])
    peak = np.concatenate([it.peak for it in tried])
    # How long islands wait for each other is a sum cut off by the longest step at hand, so a
    # fleet's run is less sure than NEAR.
    if not q.is_fleet:
        near_run_s = run_s(q, chain.times.settings(links), near_s)
        first = leading(chain.times.settings(links), near_run_s, near_run_s, NEAR)
        found.kept += int(np.count_nonzero(~first))
        links, peak = take(links, first), peak[first]
    settings, step_s = chain.times.settings(links), chain.times.in_full(links)
    _keep(q, settings, step_s, chain.bytes.in_full(links, peak), np.ones(peak.size), found)


def _walk_chain(
    q: Question, axes: Axes, chain: Chain, among: Mask, left: float, found: Found
) -> None:
    """Price every setting of recompute and offload that could be the best of its candidate.

    Of the candidates of a chain those `among` them, with `left` settings in all.
    """
    if 0 in axes.recompute and 0 in axes.offload:  # looked at already, and it did not fit
        found.fell(NO_MEMORY, int(np.count_nonzero(among)))
        left -= int(np.count_nonzero(among))
    tried = list(chain.tried(among, found.best.threshold_s))
    found.fell(NO_MEMORY, sum(it.short for it in tried))
    found.fell(TOO_SLOW, sum(it.slow for it in tried))
    found.fell(NO_MEMORY, sum(it.tight for it in tried))
    found.evaluated += sum(it.evaluated for it in tried)
    found.kept += sum(it.beaten for it in tried)
    if any(it.near_s.size for it in tried):
        _keep_near(q, chain, tried, found)
    found.fell(DOMINATED, left - sum(it.asked for it in tried))
