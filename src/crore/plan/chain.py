"""The chain of recompute and offload: the settings of a candidate that could be the best of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crore.plan.axes import Axes
from crore.plan.best import leading
from crore.plan.candidates import Candidates, Floats, Mask, joined, repeated, take
from crore.plan.chain_bytes import ChainBytes
from crore.plan.chain_times import ACTIVATIONS, NEAR, STATES, ChainTimes, Links
from crore.plan.fleet import run_bound_s
from crore.plan.pricing import floors
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
    """Their peak bytes, nearly."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timed:
    """Links and what they take, nearly; `[N]` each."""

    links: Links
    near_s: Floats
    """Of a step."""
    run_s: Floats
    """That their run does not undercut."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listed:
    """Links, most of them twice: with optimizer states in host memory and without."""

    links: Links
    bare: Links
    """The same without, each once."""
    at: NDArray[np.intp]
    """Which of `bare` each link is."""


class Chain:
    """The chains of some candidates, of which those count that fit and are fast enough.

    All are priced together at first; what comes of them is asked for some at a time, as those that
    are asked for first lower the threshold for the others.
    """

    def __init__(
        self, q: Question, axes: Axes, candidates: Candidates, limit: float, threshold_s: float
    ) -> None:
        """`limit` is in bytes; of a run longer than `threshold_s` nothing will be asked."""
        self._q, self._axes, self._limit = q, axes, limit
        self.times = ChainTimes(q, axes, candidates)
        self.bytes = ChainBytes(q, axes, self.times)
        plain, one, spread = self._listed()
        self._one, layers = self._fewest_layers(one, threshold_s)
        self._price_each(plain, replace(self._one.links, layers=layers), threshold_s)
        self._spread = spread.links
        self._bound_spread(spread, threshold_s)

    def _listed(self) -> tuple[_Listed, _Listed, _Listed]:
        """Return links to price one by one, to cut to the fewest layers, and with every number.

        The latter two with one layer.
        """
        kinds: list[list[tuple[Links, list[int]]]] = [[], [], []]
        pairs = chained(self._axes)
        for mode, stored in dict.fromkeys((mode, offload & ACTIVATIONS) for mode, offload in pairs):
            which = np.flatnonzero(~forbids_mode(self._q, self.times.candidates, mode))
            kind, layers = 0, float(self._axes.recompute_layers or -1)
            if mode == FULL_MODE and not self._axes.recompute_layers:
                kind, layers = (2 if stored else 1), 1.0
            bare = Links(which=which, mode=mode, layers=layers, offload=stored)
            states = [states for states in (0, STATES) if (mode, stored | states) in pairs]
            kinds[kind].append((bare, states))
        plain, one, spread = (_listed(groups) for groups in kinds)
        return plain, one, spread

    def _shared(self, listed: _Listed, of: Callable[[Links], Floats]) -> Floats:
        """Return step seconds of links by those `of` them without optimizer states."""
        return of(listed.bare)[listed.at] + self.times.of_states(listed.links)

    def _timed(self, links: Links, near_s: Floats) -> _Timed:
        return _Timed(links=links, near_s=near_s, run_s=self.times.run_s(links, near_s))

    def _within(self, it: _Timed, threshold_s: float) -> Mask:
        """Tell which links are fast enough, of those near the limit by their price in full."""
        fast = np.asarray(it.run_s <= threshold_s)
        if threshold_s == math.inf:
            return fast
        close = np.flatnonzero(np.abs(it.run_s - threshold_s) <= NEAR * threshold_s)
        if close.size:
            links = take(it.links, close)
            whole_s = self.times.in_full(links)
            run = run_bound_s(self._q, self.times.settings(links), whole_s)
            fast[close] = run <= threshold_s
        return fast

    def _fits(self, links: Links) -> Mask:
        return self.bytes.within(links, self.bytes.of(links), self._limit)

    def _fewest_layers(self, one: _Listed, threshold_s: float) -> tuple[_Timed, Floats]:
        """Return links of which some number of layers fits, and the fewest that do.

        Those that are too slow with one layer are left out. Peak memory falls with every layer from
        the first on, so cutting the range finds the number.
        """
        timed = self._timed(one.links, self._shared(one, self.times.seconds))
        timed = take(timed, timed.run_s <= threshold_s * (1 + NEAR))
        held = floors(self._q, self.times.settings(self._whole(timed.links))) <= self._limit
        timed = take(timed, held)
        timed = take(timed, self._fits(self._whole(timed.links)))
        low, high = np.ones(timed.near_s.size), self._stage(timed.links)
        while np.any(low < high):
            parts = [np.floor(low + (high - low) * share) for share in _cuts(high.size)]
            fits = self._fits(_together([replace(timed.links, layers=part) for part in parts]))
            for layers, enough in zip(parts, fits.reshape(len(parts), -1), strict=True):
                low = np.where(enough, low, np.maximum(layers + 1, low))
                high = np.where(enough, np.minimum(layers, high), high)
        return timed, high

    def _stage(self, links: Links) -> Floats:
        return self.times.stage[links.which].astype(float)

    def _whole(self, links: Links) -> Links:
        """Return links with all layers recomputed."""
        return replace(links, layers=self._stage(links))

    def _price_each(self, plain: _Listed, fewest: Links, threshold_s: float) -> None:
        """Price links one by one."""
        plain_s, fewest_s = self._shared(plain, self.times.seconds), self.times.seconds(fewest)
        links = _together([plain.links, fewest])
        self._each = self._timed(links, np.concatenate([plain_s, fewest_s]))
        self._held = floors(self._q, self.times.settings(links)) <= self._limit
        self._each_fits = self._held & (self._each.run_s <= threshold_s * (1 + NEAR))
        some = take(links, self._each_fits)
        self._each_peak = np.full(self._held.size, np.inf)
        self._each_peak[self._each_fits] = peak = self.bytes.of(some)
        self._each_fits[self._each_fits] = self.bytes.within(some, peak, self._limit)

    def _bound_spread(self, spread: _Listed, threshold_s: float) -> None:
        """Bound what every number of layers takes, activations in host memory.

        All numbers need the same memory, as none keeps activations.
        """
        it = spread.links
        self._spread_peak = self.bytes.of(it)
        self._spread_fits = self.bytes.within(it, self._spread_peak, self._limit)
        self._least = self.times.run_s(it, self._shared(spread, self.times.least))
        near = self._least <= threshold_s * (1 + NEAR)
        self._known, self._most = np.full((2, near.size), np.inf)
        some = take(it, near)
        known_s, most_s = self.times.known(some)
        self._known[near] = self.times.run_s(some, known_s)
        self._most[near] = self.times.run_s(some, most_s)

    def tried(self, among: Mask, threshold_s: float) -> Iterator[Tried]:
        """Yield what comes of the chains of some candidates, told by a mask of all."""
        if self._spread.which.size:
            yield self._every_count(np.flatnonzero(among[self._spread.which]), threshold_s)
        yield self._one_by_one(among, threshold_s)

    def _one_by_one(self, among: Mask, threshold_s: float) -> Tried:
        """Return what comes of links that are priced one by one."""
        asked = among[self._each.links.which]
        fewest = asked.size - self._one.near_s.size + np.flatnonzero(among[self._one.links.which])
        one = take(self._one, among[self._one.links.which])
        asked[fewest] = self._within(one, threshold_s)
        held = np.flatnonzero(asked & self._held)
        timed, fits = take(self._each, held), self._each_fits[held]
        fast = self._within(timed, threshold_s)
        good = fast & fits
        return Tried(
            links=take(timed.links, good), near_s=timed.near_s[good],
            peak=self._each_peak[held][good], short=int(np.count_nonzero(asked)) - held.size,
            slow=int(np.count_nonzero(~fast)), tight=int(np.count_nonzero(fast & ~fits)),
        )  # fmt: skip

    def _every_count(self, index: NDArray[np.intp], threshold_s: float) -> Tried:
        """Return what comes of every number of recomputed layers, activations in host memory.

        A recomputed layer also saves a transfer, so more layers may be faster and no number
        dominates. Those of a link are told at once where all are too slow, or all fast enough and
        too large or later than a known one of their family.
        """
        one, fits = take(self._spread, index), self._spread_fits[index]
        least, settings = self._least[index], self.times.settings(one)
        slow = least > threshold_s * (1 + NEAR)
        fast = self._most[index] <= threshold_s * (1 - NEAR)
        first = leading(settings, least, np.where(fast & fits, self._known[index], np.inf), NEAR)
        tight, beaten = fast & ~fits, fast & fits & ~first
        opened = ~(slow | tight | beaten)
        found = self._each_count(
            take(one, opened), self._spread_peak[index][opened], fits[opened], threshold_s
        )
        stage = self.times.stage[one.which]
        return replace(
            found, slow=found.slow + int(np.sum(stage[slow])),
            tight=found.tight + int(np.sum(stage[tight])), beaten=int(np.sum(stage[beaten])),
        )  # fmt: skip

    def _each_count(self, one: Links, peak: Floats, fits: Mask, threshold_s: float) -> Tried:
        """Return what comes of every number of recomputed layers, one by one."""
        counts = self.times.stage[one.which].astype(np.intp)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        layers = np.arange(1.0, before.size + 1) - before
        links = replace(repeated(one, counts), layers=layers)
        timed = self._timed(links, self.times.seconds(links))
        peak, fits = np.repeat(peak, counts), np.repeat(fits, counts)
        fast = self._within(timed, threshold_s)
        good = fast & fits
        return Tried(
            links=take(timed.links, good), near_s=timed.near_s[good], peak=peak[good], short=0,
            slow=int(np.count_nonzero(~fast)), tight=int(np.count_nonzero(fast & ~fits)),
        )  # fmt: skip


def chained(axes: Axes) -> list[tuple[int, int]]:
    """Return the pairs of a recompute mode and an offload beyond none of either."""
    pairs = [(mode, offload) for offload in axes.offload for mode in axes.recompute]
    return [pair for pair in pairs if pair != (0, 0)]


def _listed(groups: list[tuple[Links, list[int]]]) -> _Listed:
    """Return links with each of their states of the optimizer in host memory."""
    bare = [links for links, _ in groups]
    starts = np.cumsum([0, *(links.which.size for links in bare)])
    every = [
        (replace(links, offload=links.offload | one), start + np.arange(links.which.size))
        for (links, states), start in zip(groups, starts, strict=False)
        for one in states
    ]
    none = Links(which=np.empty(0, dtype=np.intp), mode=0, layers=1.0, offload=0)
    return _Listed(
        links=_together([none, *(links for links, _ in every)]), bare=_together([none, *bare]),
        at=np.concatenate([none.which, *(at for _, at in every)]),
    )  # fmt: skip


def _together(links: list[Links]) -> Links:
    return joined(links, [it.which.size for it in links])


def _cuts(count: int) -> Floats:
    """Return where the ranges of recomputed layers of `count` candidates are tried at once."""
    cuts = min(max(TRIED // max(count, 1), FEWEST_CUTS), MOST_CUTS)
    return np.arange(1, cuts + 1) / (cuts + 1)
