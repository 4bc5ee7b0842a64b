"""The space of plans: cells first (what a micro-batch costs), then the settings inside each cell.

A cell fixes the axes of `axes.GRID` and how the GPUs fall into data-parallel ranks, worlds and
islands. Inside it are pipeline schedules, ZeRO stages and shard groups; recompute and offload come
last (`chain`). Every function works on columns, one entry per cell or candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.cost.layout import RECOMPUTE, Layout, indivisible, layers_per_stage, rules
from crore.cost.schedules import chunks_per_rank, least_micro_batches, schedule_code
from crore.plan.axes import OF_A_FLEET, OFFLOADS, Axes, divisors
from crore.plan.candidates import (
    Candidates,
    Floats,
    Mask,
    distinct,
    joined,
    listed,
    size,
    take,
    upright,
)
from crore.plan.fleet import island_counts
from crore.plan.request import Question
from crore.plan.stack_rules import (
    BACK_TWICE_REASON,
    CELLS,
    POINTS,
    SETTINGS,
    SPLITS,
    broken_rules,
    forbids_mode,
    least_rounds,
)

FULL_MODE = RECOMPUTE.index("full")
NO_MEMORY = "does not fit in memory"
WORLD_PARTS: Final = (1, 2, 4, 8)
"""A world holds as many model replicas as it has room for, or this part of them: smaller ones lose
less to a failure (3 % at 10,000 GPUs, 0.4 % at an eighth) and share optimizer states less."""
NO_WORLD = "no number of worlds is as pinned and fed by the global batch"
Counts = dict[str, int]
Fits = Callable[[Candidates], Mask]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """All cells whose rules hold, and which grid point each belongs to."""

    candidates: Candidates
    """With the most lenient settings inside."""
    point: NDArray[np.intp]
    """Index into the grid's points."""
    grid: Candidates
    """One entry per grid point, on as few GPUs as it needs."""
    total: int
    """Settings of all cells, rules or not."""
    rejected: Counts
    """Reason -> settings that fell with their cell."""
    binding: str
    """The rule that took the last cells away; empty where some are left, or memory took them."""


def cells_of(q: Question, axes: Axes, fits: Fits) -> Cells:
    """Return the cells of a question: rules of the grid first, then those of its ranks.

    `fits` tells which points of the grid can hold any setting at all, each given as many shards as
    a world has room for.
    """
    table, named_once = _grid(axes)
    weight = np.broadcast_to(settings_per_cell(q, axes, table), named_once.shape)
    of_points = chain(
        rules_of_cells(q, table, exact=False), broken_rules(q, table, SPLITS, POINTS)
    )  # fmt: skip
    alive, fallen = _fallen(of_points, named_once)
    rejected = {reason: int(np.sum(weight[mask])) for reason, mask in fallen.items()}
    total = float(sum(rejected.values()))
    grid, weight = listed(table, alive), weight[alive]
    binding = _last(fallen, alive)
    if q.is_fleet and not binding:
        roomy = fits(_one_world(q, grid))
        rejected[NO_MEMORY] = int(np.sum(weight[~roomy]))
        total += float(np.sum(weight[~roomy]))
        grid = take(grid, roomy)
    cells, point = _ranks(q, axes, grid)
    if size(grid) and not size(cells):
        binding = NO_WORLD
    weight = settings_per_cell(q, axes, cells)
    of_cells = chain(
        rules_of_cells(q, cells, exact=not q.is_fleet), broken_rules(q, cells, CELLS)
    )  # fmt: skip
    obey, broken = _fallen(of_cells, np.ones(size(cells), dtype=bool))
    for reason, mask in broken.items():
        rejected[reason] = rejected.get(reason, 0) + int(np.sum(weight[mask]))
    return Cells(
        candidates=take(cells, obey), point=point[obey], grid=grid,
        total=int(total + np.sum(weight)), rejected=rejected,
        binding=binding or _last(broken, obey),
    )  # fmt: skip


def _last(fallen: Mapping[str, Mask], alive: Mask) -> str:
    """Return the rule that left nobody alive, if one did."""
    return "" if alive.any() else ["", *fallen][-1]


def _one_world(q: Question, grid: Candidates) -> Candidates:
    """Return each grid point with all the shards one world has room for, one micro-batch each."""
    it = grid.layout
    shards = np.floor(q.world_limit / (it.tp * it.pp * it.cp))
    return replace(grid, layout=replace(it, dp_shard=shards), batch=shards * it.micro_batch)


def _fallen(broken: Iterator[tuple[str, Mask]], alive: Mask) -> tuple[Mask, Mapping[str, Mask]]:
    """Return who of those alive obeys every rule, and who fell to which first."""
    fallen: dict[str, Mask] = {}
    for reason, mask in broken:
        first = alive & mask
        if first.any():
            fallen[reason] = first
            alive = alive & ~mask
    return alive, fallen


def _grid(axes: Axes) -> tuple[Candidates, Mask]:
    """Cross the grid's axes; each point on the fewest ranks its experts need, one micro-batch.

    As a table with a dimension for each axis, where a column has those it depends on: most rules
    ask a few axes. Also tells which of its points have no other name.
    """
    values = [np.array(v, dtype=float) for v in axes.grid.values()]
    columns = dict(zip(axes.grid, np.meshgrid(*values, indexing="ij", sparse=True), strict=True))
    # Without tensor parallelism, etp "as tp" (0) and sequence parallelism are other names for none.
    named_twice = (columns["etp"] == 0) * (len(axes.grid["etp"]) > 1) + columns["sequence_parallel"]
    keep = (columns["tp"] > 1) | (named_twice == 0)
    columns["etp"] = np.where(columns["etp"] == 0, columns["tp"], columns["etp"])
    ranks = columns["ep"] * columns["etp"]
    layout = Layout(
        **columns, dp_shard=ranks, dp_replicate=np.ones_like(ranks), vpp=np.ones_like(ranks),
        schedule=np.full_like(ranks, schedule_code("1f1b")), zero=np.ones_like(ranks),
    )  # fmt: skip
    one = np.ones_like(ranks)
    batch = ranks * columns["micro_batch"]
    table = Candidates(layout=layout, islands=one, worlds=one, batch=batch)
    return table, np.broadcast_to(keep, [len(it) for it in values])


def _ranks(q: Question, axes: Axes, grid: Candidates) -> tuple[Candidates, NDArray[np.intp]]:
    """Give each grid point its data-parallel ranks, worlds and islands, in every way allowed."""
    points = np.arange(size(grid))
    if not q.is_fleet:
        unit = grid.layout.tp * grid.layout.pp * grid.layout.cp
        dp = np.maximum(np.floor(q.gpus / unit), 1)
        layout = replace(grid.layout, dp_shard=dp)
        one = np.ones_like(unit)
        return replace(grid, layout=layout, batch=one * q.global_batch), points
    parts, indices = [], []
    for islands in island_counts(q):
        for part in WORLD_PARTS:
            for chosen, which in _worlds(q, axes, grid, islands, part):
                parts.append(chosen)
                indices.append(which)
    if not parts:
        return take(grid, slice(0, 0)), points[:0]
    return joined(parts, [w.size for w in indices]), np.concatenate(indices)


def _worlds(
    q: Question, axes: Axes, grid: Candidates, islands: int, part: int
) -> Iterator[tuple[Candidates, NDArray[np.intp]]]:
    """Yield cells whose worlds hold 1/`part` of the model replicas that a world has room for.

    The batch is the largest multiple of ranks and micro-batch within the island's share; where that
    is less than the micro-batches a rank needs, fewer worlds are used.
    """
    it = grid.layout
    unit = it.tp * it.pp * it.cp
    room = np.floor(q.world_limit / unit)
    replicas = np.floor(room / part)
    if "dp_shard" in axes.pins:
        pinned = float(axes.pins["dp_shard"])
        replicas = np.where((part == 1) & (room >= pinned), pinned, 0)
    share = q.global_batch // islands
    most = np.floor(q.gpus // islands / np.maximum(replicas * unit, 1))
    seen = np.zeros_like(unit)
    for rounds in least_rounds(q, it.pp):
        fed = np.floor(share / np.maximum(replicas * it.micro_batch * rounds, 1))
        worlds = np.minimum(most, fed)
        if "worlds" in axes.pins:
            worlds = np.where(worlds >= axes.pins["worlds"], axes.pins["worlds"], 0)
        which = np.flatnonzero((replicas >= 1) & (worlds >= 1) & (worlds != seen))
        seen = worlds
        if which.size:
            yield _fed(grid, which, replicas[which], worlds[which], islands, share), which


def _fed(
    grid: Candidates, which: NDArray[np.intp], replicas: Floats, worlds: Floats, islands: int,
    share: int,
) -> Candidates:  # fmt: skip
    """Return grid points on so many worlds of so many replicas, with the batch they take."""
    chosen = take(grid, which)
    ranks = replicas * worlds * chosen.layout.micro_batch
    layout = replace(chosen.layout, dp_shard=replicas, dp_replicate=worlds)
    batch = np.floor(share / ranks) * ranks
    return replace(
        chosen, layout=layout, islands=np.full(which.size, float(islands)), worlds=worlds,
        batch=batch,
    )  # fmt: skip


def rules_of_cells(q: Question, cells: Candidates, exact: bool) -> Iterator[tuple[str, Mask]]:
    """Yield the cost room's rules of one world; an `exact` one uses every GPU of the question."""
    replicas = cells.layout.dp_replicate
    world = replace(cells.layout, dp_replicate=np.ones_like(replicas))
    batch = cells.batch / replicas
    gpus = float(q.gpus) if exact else world.gpus
    yield from rules(world, q.shape, batch, gpus, q.seq_len)
    if not q.is_fleet:
        alone = any(q.request.fix.get(key, 1) != 1 for key in OF_A_FLEET)
        yield "several worlds are pinned, and the GPUs are one", np.full(np.shape(batch), alone)
    else:
        unit = world.tp * world.pp * world.cp
        yield "tp x pp x cp is more than a world holds", np.greater(unit, q.world_limit)


def settings_per_cell(q: Question, axes: Axes, cells: Candidates) -> Floats:
    """Return how many settings each cell has inside: pipelines, shards, recompute, offload."""
    shards: Num = 0.0
    for zero in axes.zero:
        shards = shards + (_shard_counts(axes, cells) if zero == 3 else 1)
    return chain_of_space(q, axes, cells) * shards * len(axes.pipelines)


def _shard_counts(axes: Axes, cells: Candidates) -> Floats:
    ranks = np.asarray(cells.layout.dp_shard)
    sizes, where = distinct(ranks.ravel())
    counts = np.array([float(len(_shard_groups(axes, 3, int(dp)))) for dp in sizes])
    return counts[where.reshape(ranks.shape)] if counts.size else np.zeros_like(ranks)


def _shard_groups(axes: Axes, zero: int, dp: int) -> list[int]:
    """Return the sizes of a shard group: pinned, all ranks, or any divisor where fully sharded.

    Below ZeRO-3 a larger group only saves: its messages are as long, its optimizer step shorter.
    """
    if "dp_shard" in axes.pins:
        return [axes.pins["dp_shard"]]
    if "dp_replicate" in axes.pins:
        return [max(dp // axes.pins["dp_replicate"], 1)]
    return divisors(dp, dp) if zero == 3 else [dp]


def settings(q: Question, axes: Axes, cells: Candidates) -> Candidates:
    """Return every pipeline, ZeRO stage and shard group inside each cell; nothing recomputed.

    As a table with a row for each stage and group of a cell, and a column for each pipeline.
    """
    sizes, which = distinct(cells.layout.dp_shard)
    rows: list[NDArray[np.intp]] = []
    zeros, shards = [], []
    for zero in axes.zero:
        groups = [np.array(_shard_groups(axes, zero, int(dp)), dtype=float) for dp in sizes]
        counts = np.array([group.size for group in groups])[which]
        rows.append(np.repeat(np.arange(size(cells)), counts))
        shards += [groups[k] for k in which]
        zeros.append(np.full(int(counts.sum()), float(zero)))
    row = np.concatenate(rows)
    sharded = _with_shards(take(cells, row), np.concatenate(zeros), np.concatenate(shards))
    rows_of = upright(sharded)
    codes, chunks = np.array(axes.pipelines, dtype=float).reshape(-1, 1, 2).T
    layout = replace(rows_of.layout, schedule=codes, vpp=chunks)
    return _whole_rounds(q, replace(rows_of, layout=layout))


def _with_shards(cells: Candidates, zero: Floats, shard: Floats) -> Candidates:
    """Split each cell's ranks of a world into groups of `shard`; what is left replicates them."""
    it = cells.layout
    replicas = np.maximum(np.floor(it.dp_shard / shard), 1) * it.dp_replicate
    return replace(cells, layout=replace(it, zero=zero, dp_shard=shard, dp_replicate=replicas))


def _whole_rounds(q: Question, candidates: Candidates) -> Candidates:
    """Round a fleet's batch down: interleaving takes micro-batches in multiples of pp."""
    if not q.is_fleet or not size(candidates):
        return candidates
    it = candidates.layout
    each = it.dp * it.micro_batch
    unit = np.where(it.vpp > 1, it.pp, 1.0) * each
    return replace(candidates, batch=np.floor(candidates.batch / unit) * unit)


def rules_of_settings(
    q: Question, axes: Axes, candidates: Candidates
) -> Iterator[tuple[str, Mask]]:
    """Yield the rules that a setting inside a cell may break."""
    it, pinned = candidates.layout, axes.pins
    stage = layers_per_stage(it, q.shape.layers)
    chunks = np.greater(it.vpp, 1)
    piped = np.greater(it.pp, 1)
    plain = np.equal(it.schedule, axes.pipelines[0][0]) if axes.pipelines else piped
    rounds = candidates.batch / (it.dp * it.micro_batch)
    yield "virtual stages without a pipeline", chunks & ~piped
    if len(axes.pipelines) > 1:
        yield "a pipeline schedule without a pipeline", ~plain & ~piped
    yield "no whole round of micro-batches", np.less(rounds, 1)
    per_rank = chunks_per_rank(it.schedule, it.vpp)
    yield "a stage's layers do not divide into its chunks", piped & indivisible(stage, it.vpp)
    yield (
        "more pipeline chunks than layers",
        piped & np.greater(it.pp * per_rank, np.maximum(q.shape.layers, 1)),
    )
    yield (
        "interleaving needs micro-batches in multiples of pp",
        chunks & indivisible(rounds, it.pp),
    )
    yield (
        "too few micro-batches to fill the schedule",
        piped & np.less(rounds, least_micro_batches(it.schedule, it.pp)),
    )
    yield (
        "several chunks need the interleaved schedule",
        chunks & (it.schedule != schedule_code("interleaved")),
    )
    if "dp_replicate" in pinned:
        replicas = pinned["dp_replicate"] * candidates.worlds
        yield "dp_replicate is not as pinned", np.not_equal(it.dp_replicate, replicas)
    if not q.is_fleet:
        yield "pp x dp x cp x tp is not the GPU count", np.not_equal(it.gpus, q.gpus)
    alone = np.equal(it.dp_shard * it.cp, 1)
    if "zero" not in pinned and len(axes.zero) > 1:
        yield "weights sharded over one rank", np.equal(it.zero, 3) & np.equal(it.dp_shard, 1)
        if min(axes.zero) < 2:
            yield "gradients sharded over one rank", np.equal(it.zero, 2) & alone
        if q.abilities.schedules[-1] == "interleaved":  # Megatron's line, and XLA
            yield "fully sharded weights inside a pipeline", np.equal(it.zero, 3) & piped


def rules_inside(q: Question, axes: Axes, it: Candidates) -> Iterator[tuple[str, Mask]]:
    """Yield `rules_of_settings` and those of the stack."""
    return chain(rules_of_settings(q, axes, it), broken_rules(q, it, SETTINGS))


def obeying(q: Question, axes: Axes, table: Candidates) -> tuple[Candidates, Counts]:
    """Return the `settings` that obey every rule, and how many fell, recompute included."""
    shape = np.broadcast_shapes(np.shape(table.layout.tp), np.shape(table.layout.schedule))
    alive, fallen = _fallen(rules_inside(q, axes, table), np.ones(shape, dtype=bool))
    whole = np.broadcast_to(chain_of_space(q, axes, table), shape)
    counts = {reason: int(np.sum(whole[mask])) for reason, mask in fallen.items()}
    allowed = np.broadcast_to(chain_lengths(q, axes, table), shape)
    forbidden = int(np.sum(whole[alive] - allowed[alive]))
    if forbidden:
        counts[BACK_TWICE_REASON] = forbidden
    return listed(table, alive & (allowed > 0)), counts


def _mode_lengths(q: Question, axes: Axes, candidates: Candidates, mode: int) -> Floats:
    """Return how many settings each candidate has with one recompute mode: layers, offload."""
    counted = mode == FULL_MODE and not axes.recompute_layers
    stage = layers_per_stage(candidates.layout, q.shape.layers) if counted else 1.0
    lengths: Floats = stage * len(axes.offload) * np.ones_like(candidates.layout.pp)
    return lengths


def chain_of_space(q: Question, axes: Axes, candidates: Candidates) -> Floats:
    """Return how many recompute and offload settings each candidate has, allowed or not."""
    modes = (_mode_lengths(q, axes, candidates, mode) for mode in axes.recompute)
    return sum(modes, np.zeros_like(candidates.layout.pp))


def chain_lengths(q: Question, axes: Axes, candidates: Candidates) -> Floats:
    """Return how many recompute and offload settings each candidate may have."""
    total = np.zeros_like(candidates.layout.pp)
    for mode in axes.recompute:
        allowed = ~forbids_mode(q, candidates, mode)
        total = total + allowed * _mode_lengths(q, axes, candidates, mode)
    return total


def with_chain(
    candidates: Candidates, mode: int, layers: Floats | float, offload: int
) -> Candidates:
    """Return candidates with a recompute mode, its layers, and what goes to host memory."""
    name = OFFLOADS[offload]
    layout = replace(
        candidates.layout, recompute=float(mode), recompute_layers=layers,
        offload_optimizer=float(name in ("optimizer", "both")),
        offload_activations=float(name in ("activations", "both")),
    )  # fmt: skip
    return replace(candidates, layout=layout)
