"""Peak bytes along the chain of recompute and offload, without listing each setting's operations.

What the operations of a candidate store is summed once for each mode of recompute; what lies
between none and all of the layers is mixed out of these. As with `chain_times` that differs from
the price in full by rounding alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crore.cost.arrays import present
from crore.cost.layout import RECOMPUTE
from crore.cost.memory import Stored, memory_of, stored
from crore.cost.step import computing_operations
from crore.plan.axes import Axes
from crore.plan.candidates import Floats, Mask, compact, size, take
from crore.plan.chain_times import NEAR, NONE, ChainTimes, Links
from crore.plan.pricing import blocks, job_for, peak_bytes
from crore.plan.request import Question


class ChainBytes:
    """Peaks of some candidates under every mode of recompute, count of layers, and offload."""

    def __init__(self, q: Question, axes: Axes, times: ChainTimes) -> None:
        """The candidates are those of `times`."""
        self._q, self._times, count = q, times, size(times.candidates)
        self._sums = not present(q.stack.eager)
        """Whether activations are a sum over operations; else memory is read off the code."""
        self._kept = np.empty((len(RECOMPUTE), count))
        self._layer, self._loss = np.empty(count), np.empty(count)
        for part in blocks(count if self._sums else 0):
            self._store(part, sorted({NONE, *axes.recompute}))

    def _store(self, part: slice, modes: list[int]) -> None:
        """Sum up what candidates store in each mode."""
        job = job_for(self._q, compact(take(self._times.candidates, part)))
        ops = computing_operations(job)
        for mode in modes:
            layout = replace(job.layout, recompute=float(mode), recompute_layers=-1.0)
            it = stored(replace(job, layout=layout), ops)
            self._kept[mode, part] = it.kept
            self._layer[part], self._loss[part] = it.layer, it.loss

    def of(self, links: Links) -> Floats:
        """Return the peak bytes of links, nearly."""
        if not self._sums:
            return peak_bytes(self._q, self._times.settings(links))
        found = np.empty(links.which.size)
        for part in blocks(found.size):
            found[part] = self._of(take(links, part))
        return found

    def _of(self, links: Links) -> Floats:
        which = links.which
        none = self._kept[NONE, which]
        kept = none + self._times.share(links) * (self._kept[links.mode, which] - none)
        job = job_for(self._q, compact(self._times.settings(links)))
        at = Stored(kept=kept, layer=self._layer[which], loss=self._loss[which])
        return np.asarray(memory_of(job, at).peak_bytes)

    def within(self, links: Links, peak: Floats, limit: float) -> Mask:
        """Tell which links fit, of those with a peak near the limit by the price in full."""
        fits = np.asarray(peak <= limit)
        close = np.flatnonzero(np.abs(peak - limit) <= NEAR * limit)
        if self._sums and close.size:
            fits[close] = self.in_full(take(links, close), peak[close]) <= limit
        return fits

    def in_full(self, links: Links, peak: Floats) -> Floats:
        """Return the peak bytes of links, that are nearly `peak`."""
        return peak_bytes(self._q, self._times.settings(links)) if self._sums else peak
