"""Whose outer gradient is left out of a round: one that is not finite, far too large, or astray.

All members judge the same shared numbers by the same history, so all leave out the same.
M: members of a round.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crore.train.health import DEVIATION


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When an outer gradient is left out."""

    norm_ratio: float = 5.0
    """Norm over what is usual: the larger of the others' median and that of the last rounds."""
    cosine_ratio: float = 0.25
    """Least cosine to the mean of the others, over the median of the others' own."""
    deviations: float = 6.0
    """And so many robust standard deviations of the last rounds' cosines below that median."""
    least_cosine: float = 0.1
    """Where the median is below it, islands agree too little for a direction to be called wrong."""
    armed_after: int = 5
    """Rounds before a direction can be called wrong."""
    window: int = 20
    """Rounds that say what is usual."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a round's members sent, and who of them is left out."""

    norms: tuple[float, ...]
    """Of the vectors as they were unpacked, [M]."""
    cosines: tuple[float, ...]
    """Of each to the mean of the others that count, [M]; NaN where there are none."""
    reasons: tuple[str, ...]
    """Why a member is left out, [M]; empty for one that counts, or has no weight."""

    @property
    def fenced(self) -> tuple[bool, ...]:
        """Whether each member is left out."""
        return tuple(bool(reason) for reason in self.reasons)


def nobody(products: Tensor, weights: Tensor) -> Verdict:
    """Leave nobody out, whatever was sent."""
    return Verdict(
        norms=norms_of(products), cosines=cosines_of(products, weights),
        reasons=("",) * len(weights),
    )  # fmt: skip


def norms_of(products: Tensor) -> tuple[float, ...]:
    """Return the norms of vectors from the products of all pairs, [M, M]."""
    return tuple(products.diagonal().sqrt().tolist())


def cosines_of(products: Tensor, weights: Tensor) -> tuple[float, ...]:
    """Return each vector's cosine to the weighted mean of the others; NaN without any.

    From the products of all pairs [M, M]; vectors that are not finite are nobody's others.
    """
    finite = products.diagonal().isfinite()
    products = products.where(finite[:, None] & finite, 0.0)
    others = (weights * finite).expand_as(products).clone().fill_diagonal_(0.0)
    along = (others * products).sum(1)
    square = torch.einsum("ij,jk,ik->i", others, products, others)
    return tuple((along / (square * products.diagonal()).sqrt()).tolist())


class Gate:
    """The judge of one fragment's rounds, with what was usual in the last ones."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._norms: deque[float] = deque(maxlen=self.limits.window)
        self._cosines: deque[list[float]] = deque(maxlen=self.limits.window)

    def judge(self, products: Tensor, weights: Tensor) -> Verdict:
        """Return who is left out, from the products of all pairs [M, M] and the weights [M].

        The history is not changed: see `keep`.
        """
        norms = norms_of(products)
        counted = [i for i, weight in enumerate(weights.tolist()) if weight > 0]
        reasons = {i: self._norm_reason(i, counted, norms) for i in counted}
        kept = [i for i in counted if not reasons[i]]
        rest = torch.zeros_like(weights)
        rest[kept] = weights[kept]
        cosines = cosines_of(products, rest)
        reasons |= {i: self._cosine_reason(i, kept, cosines) for i in kept}
        return Verdict(
            norms=norms, cosines=cosines,
            reasons=tuple(reasons.get(i, "") for i in range(len(norms))),
        )  # fmt: skip

    def _norm_reason(self, member: int, counted: Sequence[int], norms: Sequence[float]) -> str:
        norm = norms[member]
        if not math.isfinite(norm):
            return "its values are not finite"
        others = [norms[i] for i in counted if i != member and 0 < norms[i] < math.inf]
        if not others:  # alone there is nothing to send, and the loop's own watch judges
            return ""
        usual = max(statistics.median(each) for each in (others, self._norms) if each)
        if norm <= self.limits.norm_ratio * usual:
            return ""
        return f"its norm {norm:.3g} is {norm / usual:.3g} times the usual {usual:.3g}"

    def _cosine_reason(self, member: int, kept: Sequence[int], cosines: Sequence[float]) -> str:
        others = [cosines[i] for i in kept if i != member and math.isfinite(cosines[i])]
        cosine, limits = cosines[member], self.limits
        armed = len(others) > 1 and len(self._cosines) >= limits.armed_after
        if not (armed and math.isfinite(cosine)):  # nothing that did not move goes astray
            return ""
        usual = statistics.median(others)
        least = min(limits.cosine_ratio * usual, usual - limits.deviations * self._deviation())
        if usual < limits.least_cosine or cosine >= least:
            return ""
        return f"its cosine to the others' mean is {cosine:.3g}, theirs {usual:.3g}"

    def _deviation(self) -> float:
        """Return the robust standard deviation of the last rounds' cosines."""
        pooled = [cosine for cosines in self._cosines for cosine in cosines]
        middle = statistics.median(pooled)
        return DEVIATION * statistics.median(abs(cosine - middle) for cosine in pooled)

    def keep(self, verdict: Verdict, weights: Sequence[float]) -> None:
        """Count a round that was applied into what is usual."""
        sound = [i for i, weight in enumerate(weights) if weight > 0 and not verdict.fenced[i]]
        if sound:
            self._norms.append(statistics.median(verdict.norms[i] for i in sound))
        cosines = [verdict.cosines[i] for i in sound if math.isfinite(verdict.cosines[i])]
        if len(cosines) > 2:  # two have the same cosine, one has none
            self._cosines.append(cosines)

    def facts(self) -> dict[str, Any]:
        """Return the history as JSON takes it; a member that joins takes up another's."""
        return {"norms": list(self._norms), "cosines": list(self._cosines)}

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `facts` returned."""
        self._norms = deque(map(float, facts["norms"]), maxlen=self.limits.window)
        rounds = ([float(cosine) for cosine in each] for each in facts["cosines"])
        self._cosines = deque(rounds, maxlen=self.limits.window)
