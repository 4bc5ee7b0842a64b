"""Candidates priced by the cost model: time, memory, and bounds on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crore.cost import (
    Job,
    Memory,
    StepTime,
    fitted_constants,
    memory,
    operations,
    step_time,
)
from crore.cost.arrays import Num, present
from crore.cost.layout import MOMENT_BYTES, indivisible, layers_per_stage
from crore.cost.machine import Machine, machine_of, machine_on_fabric
from crore.cost.memory import floor_peak_bytes, floor_state_bytes
from crore.cost.memory_eager import kept_bytes
from crore.cost.memory_sizes import FLOAT, HALF
from crore.cost.micro_batch import micro_batch_seconds
from crore.cost.schedules import SCHEDULES
from crore.cost.step_ends import stage_weights
from crore.cost.step_time import step_seconds
from crore.cost.stragglers import barrier_slowdown
from crore.plan.axes import Axes
from crore.plan.candidates import (
    Candidates,
    Floats,
    compact,
    distinct,
    joined,
    size,
    take,
    uniform,
)
from crore.plan.fleet import run_bound_s
from crore.plan.request import Question
from crore.plan.space import Cells, with_chain

BLOCK = 16_384
"""Candidates priced in one call: large enough to amortise the calls, small enough for the cache."""


ROUNDING = 1e-9
"""The same sum in another order differs by less."""
BELOW = 0.9
"""Where memory is read off the code, a layer less to recompute or a chunk less may need less than
all that is tried here: by 6.3 % at most where whole cells were priced. So the bound is lower still:
measured, not proven."""


def machine_for(q: Question) -> Machine:
    """Return the accelerator on its cluster's or its fabric's network, or with its own NIC.

    Raises InputError when the accelerator lacks the precision.
    """
    node = q.cluster.node_size if q.cluster else 0
    network = q.cluster.nic_bytes_per_s if q.cluster else 0.0
    if q.fabric is None:
        return machine_of(q.accelerator, q.precision, node_size=node, nic_bytes_per_s=network)
    return machine_on_fabric(
        q.accelerator, q.fabric, q.precision, node_size=node, nic_bytes_per_s=network
    )


def job_for(q: Question, candidates: Candidates, machine: Machine | None = None) -> Job:
    """Return the job of one or N candidates of a question."""
    muon = q.request.fix.get("optimizer") == "muon"
    return Job(
        shape=q.shape, layout=candidates.layout, machine=machine or machine_for(q), stack=q.stack,
        seq_len=float(q.seq_len), global_batch=candidates.batch,
        optimizer_bytes=float(q.stack.optimizer_bytes) - MOMENT_BYTES if muon else -1.0,
    )  # fmt: skip


def price(
    q: Question, candidates: Candidates, machine: Machine | None = None
) -> tuple[Job, StepTime, Memory]:
    """Return job, time and memory of one or N candidates."""
    job = job_for(q, compact(candidates), machine)
    ops = operations(job)
    return job, step_time(job, fitted_constants(), ops), memory(job, ops)


def blocks(count: int, rows: int = 1) -> Iterator[slice]:
    """Yield the slices of `count` candidates that BLOCK holds, each written `rows` times."""
    block = max(BLOCK // rows, 1)
    for start in range(0, count, block):
        yield slice(start, min(start + block, count))


def seconds_and_bytes(q: Question, candidates: Candidates) -> tuple[Floats, Floats]:
    """Return (step seconds, peak bytes) of N candidates, block by block."""
    count = size(candidates)
    seconds, peak = np.empty(count), np.empty(count)
    for part in blocks(count):
        _, time, held = price(q, take(candidates, part))
        seconds[part], peak[part] = time.step_s, held.peak_bytes
    return seconds, peak


def timed(q: Question, candidates: Candidates, machine: Machine | None = None) -> StepTime:
    """Return the time of one or N candidates."""
    return step_time(job_for(q, compact(candidates), machine), fitted_constants())


def seconds(q: Question, candidates: Candidates) -> Floats:
    """Return step seconds of N candidates, block by block."""
    count = size(candidates)
    step_s = np.empty(count)
    for part in blocks(count):
        job = job_for(q, compact(take(candidates, part)))
        step_s[part] = step_seconds(job, fitted_constants())
    return step_s


def peak_bytes(q: Question, candidates: Candidates) -> Floats:
    """Return peak bytes of N candidates, block by block."""
    return _by_blocks(q, candidates, lambda job: memory(job).peak_bytes)


def _by_blocks(q: Question, candidates: Candidates, of: Callable[[Job], Num]) -> Floats:
    """Return what `of` says of N candidates, asked block by block."""
    found = np.empty(size(candidates))
    for part in blocks(found.size):
        found[part] = of(job_for(q, compact(take(candidates, part))))
    return found


def floors(q: Question, candidates: Candidates) -> Floats:
    """Return bytes that the peak of N candidates never undercuts, far cheaper than the peak."""
    if not present(q.stack.eager):
        return np.zeros(size(candidates))
    return _by_blocks(q, candidates, floor_peak_bytes) / (1 + ROUNDING)


def run_bounds_s(q: Question, axes: Axes, cells: Cells) -> Floats:
    """Return, per cell, a run time that no setting inside it undercuts.

    A step is at least its micro-batches one after the other on the slowest stage and the shortest
    bubble of any schedule that fits the cell: no message of data parallelism, no optimizer, nothing
    recomputed. ZeRO-3 on one rank adds no gather and no gradient accumulation, ZeRO-1 on one rank
    no message; recompute and offload only add. The grid point is priced once for all cells on it.
    """
    it = cells.candidates.layout
    rounds = np.asarray(cells.candidates.batch / (it.dp * it.micro_batch))
    share = _least_bubble(q, axes, cells.candidates, rounds)
    least = np.full(size(cells.candidates), np.inf)
    points, at = distinct(cells.point.astype(float))
    grid = _Grid(take(cells.grid, points.astype(np.intp)))
    zeros = {1.0 * min(z, 1) if z < 3 else 3.0 for z in axes.zero}
    for busy_s, bubble_s in zip(*grid.micro_batch_s(q, sorted(zeros)), strict=True):
        filled_s = np.multiply(
            share, bubble_s[at], out=np.full_like(share, np.inf), where=share < np.inf
        )
        step_s = rounds * busy_s[at] + filled_s
        least = np.minimum(least, step_s)
    return run_bound_s(q, cells.candidates, least * barrier_slowdown(it.gpus))


class _Grid:
    """Points of a grid as a table: pipeline ranks by row, everything else by column.

    Most operations do not ask how many pipeline ranks there are: each is priced once per column.
    """

    def __init__(self, grid: Candidates) -> None:
        self._pp, self._row = distinct(grid.layout.pp)
        it, key = grid.layout, np.zeros(size(grid))
        for part in (it.tp, it.cp, it.ep, it.etp, it.micro_batch, it.sequence_parallel):
            key = key * (np.max(part, initial=0.0) + 1) + part
        _, first, self._column = np.unique(key, return_index=True, return_inverse=True)
        self._columns = take(grid, first)

    def micro_batch_s(self, q: Question, zeros: Sequence[float]) -> tuple[Floats, Floats]:
        """Seconds of one micro-batch on the slowest stage, and of the bubble of 1F1B.

        `[ZeRO stage, point]`, without shards to gather or stragglers.
        """
        busy, bubble = np.empty((2, len(zeros), self._pp.size, size(self._columns)))
        for part in blocks(busy.shape[-1], max(self._pp.size, 1)):
            some = compact(take(self._columns, part))
            layout = replace(some.layout, pp=uniform(self._pp[:, None]), dp_shard=1.0)
            job = job_for(q, replace(some, layout=layout, batch=some.layout.micro_batch))
            for k, found in enumerate(micro_batch_seconds(job, fitted_constants(), zeros)):
                busy[k, :, part], bubble[k, :, part] = found
        at = slice(None), self._row, self._column
        return busy[at], bubble[at]


def _least_bubble(q: Question, axes: Axes, cells: Candidates, rounds: Floats) -> Floats:
    """Share of 1F1B's bubble that the best schedule allowed in each cell still has.

    Interleaving has 1/v of it; schedules that fill it with weight gradients are taken to have none.
    """
    it = cells.layout
    stage = layers_per_stage(it, q.shape.layers)
    least = np.ones(size(cells))
    even = ~indivisible(rounds, it.pp)
    for code, chunks in axes.pipelines:
        row = SCHEDULES[code]
        enough = rounds >= row.fill_stages * it.pp
        if chunks > 1:
            whole = rounds >= it.pp if q.is_fleet else even
            enough = whole & ~indivisible(stage, chunks)
        filled = all(path.stages != (1, 1, 1) for path in row.paths)
        left = 0.0 if filled else 1.0 / chunks
        least = np.minimum(least, np.where(enough, left, 1.0))
    return least


def least_bytes(q: Question, axes: Axes, cells: Candidates, enough: float = float("inf")) -> Floats:
    """Return, per cell, peak bytes that no setting inside it undercuts.

    Of cells that hold more than `enough` throughout a step, that is the answer.

    Everything that only saves memory at its most: shards over all ranks, offload of all a stack
    can, one model copy and the fewest micro-batches in flight of any schedule. Recompute modes and
    ZeRO stages are all tried, as a recomputed layer comes back whole, a gathered one too; but for
    stage 1 where there is 2, which keeps no more.
    """
    least = always_there(q, axes, cells)
    near = least <= enough
    least[near] = _least_tried(q, axes, take(cells, near), enough)
    return least


def _least_tried(q: Question, axes: Axes, cells: Candidates, enough: float) -> Floats:
    """Return the least over recompute modes and ZeRO stages, and less where it is read off code."""
    stages = [zero for zero in axes.zero if zero != 1 or 2 not in axes.zero]
    modes = [(zero, mode) for zero in stages for mode in axes.recompute]
    least = np.empty(size(cells))
    for part in blocks(least.size, len(modes)):
        asked = take(cells, part)
        tried = [
            with_chain(replace(asked, layout=replace(asked.layout, zero=float(zero))), mode, -1.0,
                       max(axes.offload))
            for zero, mode in modes
        ]  # fmt: skip
        below, early = 1.0, np.zeros(size(asked))
        if present(q.stack.eager):
            below, early = BELOW, _let_go_early(q, axes, asked)
        together = joined(tried, [size(asked)] * len(tried))
        peak = floors(q, together)
        near = np.flatnonzero(peak <= np.tile(enough / below + early, len(tried)))
        peak[near] = peak_bytes(q, take(together, near))
        least[part] = below * (peak.reshape(len(tried), -1).min(axis=0) - early)
    return least


def _let_go_early(q: Question, axes: Axes, cells: Candidates) -> Floats:
    """Return whole weights and gradients that interleaving never has at once.

    All but those of one stage of a rank: a pipeline whose memory is read off the code lets the
    others' weights go, and reduces their gradients before where it has one round of micro-batches
    (`cost.memory_flight`). A fleet cuts its batch to whole rounds.
    """
    chunks = max((v for _, v in axes.pipelines), default=1)
    job = job_for(q, cells)
    plain, experts = stage_weights(job)
    pp = cells.layout.pp
    one_round = np.less(job.micro_batches, 2 * pp if q.is_fleet else pp + 1)
    width = HALF * job.machine.element_scale + FLOAT * one_round
    early = width * (plain + experts) * (1 - 1 / chunks)
    return np.asarray(np.where(np.greater(pp, 1), early, 0.0))


class Points:
    """`least_bytes` of points of the grid that one world has room for, each asked once.

    It serves one question at many GPU counts: what a world has room for does not depend on them.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], dict[bytes, float]] = {}
        self._last: tuple[tuple[object, ...], Floats] = (), np.empty(0)

    def least(self, q: Question, axes: Axes, points: Candidates, enough: float) -> Floats:
        """Return `least_bytes` of points, at once where the same were asked last."""
        asked = (*_asked_of(q, axes), enough, _rows(points).tobytes())
        if asked != self._last[0]:
            self._last = asked, least_bytes(q, axes, points, enough)
        return self._last[1]

    def roomy(self, q: Question, axes: Axes, points: Candidates, limit: float) -> NDArray[np.bool_]:
        """Return which points may hold a setting of at most `limit` bytes."""
        known = self._known.setdefault((*_asked_of(q, axes), limit), {})
        keys = [row.tobytes() for row in _rows(points)]
        new = np.array([key not in known for key in keys], dtype=bool)
        least = least_bytes(q, axes, take(points, new), limit)
        known.update(zip((keys[k] for k in np.flatnonzero(new)), least.tolist(), strict=True))
        return np.array([known[key] for key in keys]) <= limit


def _asked_of(q: Question, axes: Axes) -> tuple[object, ...]:
    """Return what of a question's own the memory of a point depends on."""
    return repr((axes.pipelines, axes.zero, axes.recompute, axes.offload)), q.seq_len


def _rows(points: Candidates) -> Floats:
    it = points.layout
    rows = np.stack(np.broadcast_arrays(
        it.tp, it.pp, it.cp, it.ep, it.etp, it.micro_batch, it.sequence_parallel, it.dp_shard,
        points.batch,
    ), axis=1)  # fmt: skip
    return np.ascontiguousarray(rows, dtype=float)


def always_there(q: Question, axes: Axes, cells: Candidates) -> Floats:
    """Return, per cell, bytes that every setting inside it holds throughout a step."""
    if present(q.stack.eager):
        return _by_blocks(q, cells, kept_bytes)
    least = np.full(size(cells), np.inf)
    for zero in axes.zero:
        sharded = replace(cells, layout=replace(cells.layout, zero=float(zero)))
        lean = with_chain(sharded, 0, -1.0, max(axes.offload))
        least = np.minimum(least, _by_blocks(q, lean, floor_state_bytes))
    return least / (1 + ROUNDING)


class LeastBytes:
    """`least_bytes` of cells, each distinct question asked once.

    Cells of one grid point, one number of shards and as many micro-batches in flight need the same,
    but for buffers of each micro-batch: the one with the fewest speaks for them. Of cells that hold
    more than `enough` throughout a step, that is the answer.
    """

    def __init__(self, q: Question, axes: Axes, cells: Cells, enough: float = float("inf")) -> None:
        self._q, self._axes, self._cells, self._enough = q, axes, cells.candidates, enough
        it = cells.candidates.layout
        rounds = cells.candidates.batch / (it.dp * it.micro_batch)
        key = np.zeros(np.size(rounds))
        # One whole number for each: a sort of rows takes ten times as long.
        for part in (
            cells.point, it.dp_shard, np.floor(np.minimum(rounds, it.pp)),
            np.minimum(it.dp_replicate, 2.0),
        ):  # fmt: skip
            key = key * (np.max(part, initial=0.0) + 1) + part
        order = np.argsort(rounds, kind="stable")
        _, first, kind = np.unique(key[order], return_index=True, return_inverse=True)
        self._speaker = order[first]
        self._kind = np.empty(order.size, dtype=np.intp)
        self._kind[order] = np.asarray(kind, dtype=np.intp).ravel()
        self._known = np.full(self._speaker.size, np.nan)

    def of(self, index: NDArray[np.intp]) -> Floats:
        """Return the least bytes of the cells at `index`."""
        kinds = np.unique(self._kind[index])
        new = kinds[np.isnan(self._known[kinds])]
        if new.size:
            asked = take(self._cells, self._speaker[new])
            self._known[new] = least_bytes(self._q, self._axes, asked, self._enough)
        known: Floats = self._known[self._kind[index]]
        return known
