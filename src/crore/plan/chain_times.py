"""Step seconds along the chain of recompute and offload, without pricing each of its settings.

The operations of a setting are listed and priced with no layer recomputed and with all of them;
sums for what lies between are mixed out of these (`cost.step_shares`) and added up to a step. That
differs from the price in full by rounding alone, so what is within NEAR of a limit is priced in
full before it is told, and so is what may be the best.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Final, TypeAlias

import numpy as np

from crore.cost import fitted_constants, forward_operations
from crore.cost.arrays import Num
from crore.cost.layout import RECOMPUTE, layers_per_stage
from crore.cost.step import chain_operations, operations_of
from crore.cost.step_shares import (
    Mixture,
    Rows,
    joined_tallies,
    summed_tallies,
    turning_shares,
)
from crore.cost.step_time import Tally, added, pricer_of, step_seconds, tally
from crore.cost.stragglers import barrier_slowdown
from crore.plan.axes import OFFLOADS, Axes
from crore.plan.candidates import Candidates, Floats, compact, size, take
from crore.plan.fleet import run_bound_s
from crore.plan.pricing import blocks, job_for
from crore.plan.request import Question
from crore.plan.space import FULL_MODE, with_chain

NEAR: Final = 1e-9
"""Relative; sums in another order differ by a millionth of it."""
SHARES: Final = 4
"""Of layers, one of which is the fastest: one layer, all, and two where messages turn covered."""
NONE: Final = RECOMPUTE.index("none")
STATES: Final = OFFLOADS.index("optimizer")
ACTIVATIONS: Final = OFFLOADS.index("activations")
"""Of OFFLOADS, whose numbers are these two added up."""
Codes: TypeAlias = int | Rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Links:
    """Settings of some candidates along their chains; `[N]` each, or one that holds for all."""

    which: Rows
    """Index into the candidates."""
    mode: Codes
    """Of recompute, index into RECOMPUTE."""
    layers: Num
    """That full recompute redoes; -1 for all."""
    offload: Codes
    """Index into OFFLOADS."""

    @property
    def states(self) -> Num:
        """1 where optimizer states are in host memory."""
        return np.bitwise_and(self.offload, STATES) / STATES

    @property
    def activations(self) -> Num:
        """1 where stored activations are."""
        return np.bitwise_and(self.offload, ACTIVATIONS) / ACTIVATIONS


class ChainTimes:
    """Times of some candidates under every mode of recompute, count of layers, and offload."""

    def __init__(self, q: Question, axes: Axes, candidates: Candidates) -> None:
        self._q, self.candidates, count = q, candidates, size(candidates)
        self._columns = compact(candidates)
        self._offload = reduce(or_, axes.offload, 0)
        self.stage = np.broadcast_to(layers_per_stage(candidates.layout, q.shape.layers), (count,))
        self._run_per_step = run_bound_s(q, candidates, np.ones(count))
        modes = sorted({NONE, *axes.recompute})
        self._row = np.empty((len(RECOMPUTE), count), dtype=np.intp)
        totals: list[Tally] = []
        sizes: list[int] = []
        for part in blocks(count):
            some = take(candidates, part)
            for mode, total in zip(modes, self._tallies(some, modes), strict=True):
                self._row[mode, part] = np.arange(size(some)) + sum(sizes)
                totals.append(total)
                sizes.append(size(some))
        self._total = joined_tallies(totals, sizes)
        states = np.broadcast_to(self._total.states, (sum(sizes),))[self._row[NONE]]
        self._states_s = states * barrier_slowdown(candidates.layout.gpus)

    def _tallies(self, part: Candidates, modes: list[int]) -> Iterator[Tally]:
        """Yield the sums of candidates in each mode, all offloaded that the question lets go.

        What a step does in every mode is listed and priced once.
        """
        bare = with_chain(part, NONE, -1.0, self._offload & STATES)
        job = job_for(self._q, compact(bare))
        pricer, forward = pricer_of(job, fitted_constants()), forward_operations(job)
        self._constants = pricer.constants
        plain = tally(operations_of(job, forward), pricer)
        for mode in modes:
            chosen = with_chain(bare, mode, -1.0, self._offload)
            ops = chain_operations(job_for(self._q, compact(chosen)), forward)
            yield summed_tallies(plain, tally(ops, pricer))

    def settings(self, links: Links) -> Candidates:
        """Return the candidates of links, with what is recomputed and offloaded."""
        return _on_chain(take(self.candidates, links.which), links)

    def in_full(self, links: Links) -> Floats:
        """Return the step seconds of links.

        Columns that differ between the candidates stay columns where links have one value of them:
        a power of a number may end in another digit than that of a column.
        """
        found = np.empty(links.which.size)
        for part in blocks(found.size):
            some = take(links, part)
            job = job_for(self._q, _on_chain(take(self._columns, some.which), some))
            found[part] = step_seconds(job, fitted_constants())
        return found

    def seconds(self, links: Links) -> Floats:
        """Return the step seconds of links, nearly."""
        found = np.empty(links.which.size)
        for part in blocks(found.size):
            some = take(links, part)
            found[part], _ = self._added(some, self._mixture(some).of(self._total))
        return found

    def of_states(self, links: Links) -> Floats:
        """Return the step seconds of links that sending optimizer states to the host adds."""
        return np.asarray(links.states * self._states_s[links.which])

    def run_s(self, links: Links, step_s: Floats) -> Floats:
        """Return a time that no run of links undercuts whose steps take `step_s`, nearly."""
        return self._run_per_step[links.which] * step_s

    def least(self, links: Links) -> Floats:
        """Return step seconds that full recompute of no number of layers undercuts, nearly.

        Links are given with one layer. Least are launches of one layer, device time at an end or
        where a message turns covered (`turning_shares`), and nothing for messages between stages.
        """
        found = np.empty(links.which.size)
        for part in blocks(found.size, SHARES):
            some = take(links, part)
            asked = self._mixture(some)
            total = replace(asked, share=self._turns(asked)).of(self._total)
            total.launches = asked.mixed(self._total.launches)
            total.messages = asked.mixed(self._total.messages)
            step_s, sent_s = self._added(some, total)
            found[part] = np.min(step_s - sent_s, axis=0)
        return found

    def known(self, links: Links) -> tuple[Floats, Floats]:
        """Return what full recompute takes of a good number of layers, and at most, nearly.

        Links are given with one layer. Time is convex in the number of layers but for rounding up
        to whole ones, so it is most at an end.
        """
        found = np.empty((2, links.which.size))
        for part in blocks(links.which.size, SHARES):
            some = take(links, part)
            asked, stage = self._mixture(some), self.stage[some.which]
            whole = np.rint(self._turns(asked) * stage)
            step_s, _ = self._added(some, replace(asked, share=whole / stage).of(self._total))
            found[:, part] = np.min(step_s, axis=0), np.max(step_s[:2], axis=0)
        return found[0], found[1]

    def _turns(self, asked: Mixture) -> Floats:
        """Return shares of layers, `[SHARES, N]`, one of which is the fastest."""
        turns = turning_shares(self._total, asked, self._constants)
        return np.stack([np.clip(turn, asked.share, 1.0) for turn in (0.0, 1.0, *turns)])

    def share(self, links: Links) -> Floats:
        """Return the share of layers that links recompute in their mode."""
        some = np.equal(links.mode, FULL_MODE) & np.greater_equal(links.layers, 0)
        return np.where(some, np.minimum(links.layers / self.stage[links.which], 1.0), 1.0)

    def _mixture(self, links: Links) -> Mixture:
        return Mixture(
            none=self._row[NONE, links.which], whole=self._row[links.mode, links.which],
            share=self.share(links), states=links.states, activations=links.activations,
        )  # fmt: skip

    def _added(self, links: Links, total: Tally) -> tuple[Floats, Floats]:
        """Return step seconds, and of these what messages between stages add."""
        job = job_for(self._q, compact(take(self.candidates, links.which)))
        it, slow = added(job, total, self._constants), barrier_slowdown(job.layout.gpus)
        return np.asarray(it.step * slow), np.asarray(it.waits.messages_s * slow)


def _on_chain(chosen: Candidates, links: Links) -> Candidates:
    """Return candidates with what their links recompute and offload."""
    layout = replace(
        chosen.layout, recompute=links.mode * 1.0, recompute_layers=links.layers,
        offload_optimizer=links.states, offload_activations=links.activations,
    )  # fmt: skip
    return replace(chosen, layout=layout)
