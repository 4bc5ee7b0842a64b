"""The chain of recompute and offload: the settings of a candidate that could be the best of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from crore.plan.axes import Axes
from crore.plan.best import leading
from crore.plan.candidates import Candidates, Floats, Mask, joined, repeated, take
from crore.plan.chain_times import ACTIVATIONS, NEAR, ChainTimes, Links
from crore.plan.fleet import run_bound_s
from crore.plan.pricing import floors, peak_bytes
from crore.plan.request import Question
from crore.plan.space import FULL_MODE
from crore.plan.stack_rules import forbids_mode

TRIED = 1024
FEWEST_CUTS = 3
MOST_CUTS = 31
"""Where a range of recomputed layers is tried at once: a call on so many settings takes little
longer than a call on one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What some settings of a chain come to: those that fit, and how many fell to what."""

    links: Links
    """That are fast enough and fit."""
    near_s: Floats
    """Their step seconds, nearly."""
    peak: Floats
    """Their peak bytes."""
    short: int
    """Settings that hold more throughout a step than there is."""
    slow: int
    tight: int
    """Settings that are fast enough and do not fit."""
    beaten: int = 0
    """Settings that are fast enough and fit, one of the same family sooner."""

    @property
    def evaluated(self) -> int:
        """Settings whose time and memory are both told."""
        return self.peak.size + self.tight + self.beaten

    @property
    def asked(self) -> int:
        """Settings in all."""
        return self.evaluated + self.short + self.slow


class Chain:
    """The chains of some candidates, of which those count that fit and are fast enough."""

    def __init__(
        self, q: Question, axes: Axes, candidates: Candidates, limit: float, threshold_s: float
    ) -> None:
        """`limit` is in bytes, the time of a run in `threshold_s`."""
        self._q, self._axes, self._limit, self._threshold_s = q, axes, limit, threshold_s
        self.times = ChainTimes(q, axes, candidates)

    def _within(self, links: Links, near_s: Floats) -> Mask:
        """Tell which links are fast enough, of those near the limit by their price in full."""
        if self._threshold_s == math.inf:
            return np.ones(near_s.size, dtype=bool)
        settings = self.times.settings(links)
        run = run_bound_s(self._q, settings, near_s)
        fast = np.asarray(run <= self._threshold_s)
        close = np.flatnonzero(np.abs(run - self._threshold_s) <= NEAR * self._threshold_s)
        if close.size:
            whole_s = self.times.in_full(take(links, close))
            run = run_bound_s(self._q, take(settings, close), whole_s)
            fast[close] = run <= self._threshold_s
        return fast

    def tried(self, pairs: list[tuple[int, int]]) -> Iterator[Tried]:
        """Yield what comes of pairs of a recompute mode and an offload."""
        plain: list[Links] = []
        fewest: list[Links] = []
        spread: list[Links] = []
        for mode, offload in pairs:
            which = np.flatnonzero(~forbids_mode(self._q, self.times.candidates, mode))
            kind, layers = plain, float(self._axes.recompute_layers or -1)
            if mode == FULL_MODE and not self._axes.recompute_layers:
                kind, layers = (spread if offload & ACTIVATIONS else fewest), 1.0
            kind.append(Links(which=which, mode=mode, layers=layers, offload=offload))
        if spread:
            yield self._every_count(_together(spread))
        if fewest:
            plain.append(self._fewest_layers(_together(fewest)))
        if plain:
            yield self._each(_together(plain))

    def _each(self, links: Links) -> Tried:
        """Return what comes of links one by one."""
        q, settings = self._q, self.times.settings(links)
        held = floors(q, settings) <= self._limit
        links, settings = take(links, held), take(settings, held)
        near_s = self.times.seconds(links)
        fast = self._within(links, near_s)
        peak = peak_bytes(q, take(settings, fast))
        fits = peak <= self._limit
        return Tried(
            links=take(take(links, fast), fits), near_s=near_s[fast][fits], peak=peak[fits],
            short=int(np.count_nonzero(~held)), slow=int(np.count_nonzero(~fast)),
            tight=int(np.count_nonzero(~fits)),
        )  # fmt: skip

    def _fewest_layers(self, one: Links) -> Links:
        """Return links with the fewest fully recomputed layers that fit, if any number does.

        They are given with one layer, and those that are too slow so are left out. Peak memory
        falls with every layer from the first on, so cutting the range finds the number.
        """
        one = take(one, floors(self._q, self._whole(one)) <= self._limit)
        near_s = self.times.seconds(one)
        one = take(one, self._within(one, near_s))
        one = take(one, peak_bytes(self._q, self._whole(one)) <= self._limit)
        candidates = self.times.settings(one)
        low, high = np.ones(one.which.size), self.times.stage[one.which].astype(float)
        while np.any(low < high):
            parts = [np.floor(low + (high - low) * share) for share in _cuts(high.size)]
            tried = [_with_layers(candidates, layers) for layers in parts]
            peak = peak_bytes(self._q, joined(tried, [high.size] * len(parts)))
            for layers, enough in zip(parts, (peak <= self._limit).reshape(len(parts), -1),
                                      strict=True):  # fmt: skip
                low = np.where(enough, low, np.maximum(layers + 1, low))
                high = np.where(enough, np.minimum(layers, high), high)
        return replace(one, layers=high)

    def _whole(self, links: Links) -> Candidates:
        """Return candidates with all layers recomputed."""
        return _with_layers(self.times.settings(links), self.times.stage[links.which])

    def _every_count(self, one: Links) -> Tried:
        """Return what comes of every number of recomputed layers, activations in host memory.

        Links are given with one layer. A recomputed layer also saves a transfer, so more layers may
        be faster and no number dominates. All numbers need the same memory, as none keeps
        activations. Those of a link are told at once where all are too slow, or all fast enough and
        too large or later than a known one of their family.
        """
        q, settings, stage = self._q, self.times.settings(one), self.times.stage[one.which]
        peak = peak_bytes(q, settings)
        fits = peak <= self._limit
        least, known, most = (
            run_bound_s(q, settings, bound_s) for bound_s in self.times.bounds(one)
        )
        slow = least > self._threshold_s * (1 + NEAR)
        fast = most <= self._threshold_s * (1 - NEAR)
        first = leading(settings, least, np.where(fast & fits, known, np.inf), NEAR)
        tight, beaten = fast & ~fits, fast & fits & ~first
        opened = ~(slow | tight | beaten)
        found = self._each_count(take(one, opened), peak[opened])
        return replace(
            found, slow=found.slow + int(np.sum(stage[slow])),
            tight=found.tight + int(np.sum(stage[tight])), beaten=int(np.sum(stage[beaten])),
        )  # fmt: skip

    def _each_count(self, one: Links, peak: Floats) -> Tried:
        """Return what comes of every number of recomputed layers, one by one."""
        counts = self.times.stage[one.which].astype(np.intp)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        links = replace(repeated(one, counts), layers=np.arange(1.0, before.size + 1) - before)
        peak, near_s = np.repeat(peak, counts), self.times.seconds(links)
        fast = self._within(links, near_s)
        fits = peak <= self._limit
        good = fast & fits
        return Tried(
            links=take(links, good), near_s=near_s[good], peak=peak[good], short=0,
            slow=int(np.count_nonzero(~fast)), tight=int(np.count_nonzero(fast & ~fits)),
        )  # fmt: skip


def _together(links: list[Links]) -> Links:
    return joined(links, [it.which.size for it in links])


def _with_layers(candidates: Candidates, layers: Floats) -> Candidates:
    """Return candidates with so many layers fully recomputed."""
    return replace(candidates, layout=replace(candidates.layout, recompute_layers=layers))


def _cuts(count: int) -> Floats:
    """Return where the ranges of recomputed layers of `count` candidates are tried at once."""
    cuts = min(max(TRIED // max(count, 1), FEWEST_CUTS), MOST_CUTS)
    return np.arange(1, cuts + 1) / (cuts + 1)
