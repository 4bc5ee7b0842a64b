"""The best K candidates that really differ, kept while a search goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crore.plan.candidates import Candidates, Floats, Mask, size, take

FAMILY = ("tp", "pp", "cp", "ep")
"""Two plans really differ when one of these axes, the fully sharded weights, or the number of
islands does; the rest is tuning."""
TIE_ORDER = (
    "micro_batch", "etp", "sequence_parallel", "zero", "dp_shard", "schedule", "vpp", "recompute",
    "offload_activations", "offload_optimizer", "recompute_layers",
)  # fmt: skip
"""Equal times are settled by the smaller value, in this order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """One candidate with its price."""

    run_s: float
    step_s: float
    peak_bytes: float
    candidate: Candidates
    """A single one: every field a float."""


@dataclass(kw_only=True, slots=True)
class Best:
    """The fastest candidate of each of the K fastest families."""

    top: int
    ceiling_s: float = float("inf")
    """Run time that no candidate may exceed."""
    found: dict[tuple[float, ...], Ranked] = field(default_factory=dict)

    @property
    def threshold_s(self) -> float:
        """Run time above which a candidate cannot enter; the ceiling until K families are known."""
        if len(self.found) < self.top:
            return self.ceiling_s
        return min(self.ranked()[-1].run_s, self.ceiling_s)

    def ranked(self) -> list[Ranked]:
        """Return the K best, fastest first."""
        return sorted(self.found.values(), key=order_of)[: self.top]

    def add(self, candidates: Candidates, run_s: Floats, step_s: Floats, peak: Floats) -> None:
        """Take in candidates that fit."""
        near = np.flatnonzero(run_s <= self.threshold_s)
        if not near.size:
            return
        families = _families(take(candidates, near))
        for which in np.unique(families):
            members = near[families == which]
            fastest = members[run_s[members] == run_s[members].min()]
            for index in fastest:
                self._offer(
                    Ranked(
                        run_s=float(run_s[index]), step_s=float(step_s[index]),
                        peak_bytes=float(peak[index]), candidate=take(candidates, int(index)),
                    )
                )  # fmt: skip
        self.found = {family_of(it.candidate): it for it in self.ranked()}

    def _offer(self, new: Ranked) -> None:
        family = family_of(new.candidate)
        known = self.found.get(family)
        if known is None or order_of(new) < order_of(known):
            self.found[family] = new


def family_of(candidate: Candidates) -> tuple[float, ...]:
    """Return what tells a single candidate from one that really differs."""
    return tuple(float(key) for key in _keys(candidate))


def leading(candidates: Candidates, least_s: Floats, known_s: Floats, near: float) -> Mask:
    """Tell the candidates that may be the fastest of their family, whose best is known to be less.

    They take at least `least_s`, less `near` of it, and at most `known_s`.
    """
    families = _families(candidates)
    best = np.full(np.max(families, initial=-1) + 1, np.inf)
    np.minimum.at(best, families, known_s)
    return np.asarray(least_s <= best[families] * (1 + near))


def _families(candidates: Candidates) -> NDArray[np.intp]:
    """Number the families of candidates from 0, `[N]`."""
    key = np.zeros(size(candidates))
    # One whole number for each: a sort of columns takes ten times as long.
    for part in _keys(candidates):
        key = key * (np.max(part, initial=0.0) + 1) + part
    return np.asarray(np.unique(key, return_inverse=True)[1], dtype=np.intp).ravel()


def _keys(candidates: Candidates) -> list[Floats]:
    it = candidates.layout
    sharded = np.asarray(np.equal(it.zero, 3), dtype=float)
    axes = [np.asarray(getattr(it, name), dtype=float) for name in FAMILY]
    return [*axes, sharded, np.asarray(candidates.islands, dtype=float)]


def order_of(it: Ranked) -> tuple[float, ...]:
    """Return what a single candidate is sorted by, different for every two of one question."""
    layout = it.candidate.layout
    ties = (float(np.asarray(getattr(layout, name))) for name in TIE_ORDER)
    return (it.run_s, *family_of(it.candidate), float(np.asarray(it.candidate.worlds)), *ties)
