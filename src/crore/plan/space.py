"""The space of layouts: every combination of the common axes, as columns, and what rules it out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from crore.cost.layout import OPTIMIZERS, RECOMPUTE, ZERO, Layout, layers_per_stage, rules
from crore.cost.machine import BOX
from crore.cost.schedules import SCHEDULE_NAMES, schedule_code
from crore.errors import InputError, UnknownName
from crore.plan.request import Question

OUTER = ("tp", "pp", "cp", "ep")
MICRO_BATCHES = (1, 2, 4, 8, 16)
CHUNKS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20)
SHORTEST_PART = 512
"""Tokens every context-parallel rank keeps at least; shorter parts starve the attention kernels."""
LARGEST_CONTEXT = 64
LARGEST_PIPELINE = 256
OFFLOADS = ("none", "optimizer", "activations")


def divisors(number: int, largest: int) -> list[int]:
    """Return the divisors of `number` up to `largest`, rising."""
    return [d for d in range(1, min(number, largest) + 1) if number % d == 0]


def _axes(q: Question) -> dict[str, list[int]]:
    """Values each axis may take, before any rule is applied."""
    gpu, model, gpus = q.accelerator, q.model, q.gpus
    reach = gpu.domain_size if gpu.domain_size > 1 else max(gpu.node_size, BOX)
    contexts = divisors(gpus, LARGEST_CONTEXT)
    local = [c for c in contexts if c == 1 or q.seq_len // c >= SHORTEST_PART]
    return {
        "tp": divisors(gpus, max(reach, 1)),
        "pp": divisors(gpus, min(model.layers, LARGEST_PIPELINE)),
        "cp": local,
        "ep": divisors(model.experts, gpus) if model.experts else [1],
        "micro_batch": [b for b in MICRO_BATCHES if b <= q.global_batch],
        "vpp": list(CHUNKS),
        "recompute": list(range(len(RECOMPUTE))),
        "zero": [1, 3],
    }


def _pins(q: Question) -> dict[str, int]:
    """Pinned axes as numbers; words are looked up in their tables."""
    words: Mapping[str, tuple[str, ...]] = {
        "recompute": RECOMPUTE,
        "schedule": SCHEDULE_NAMES,
        "offload": OFFLOADS,
        "optimizer": OPTIMIZERS,
    }
    pins: dict[str, int] = {}
    for key, value in q.request.fix.items():
        if key in words:
            if value not in words[key]:
                raise UnknownName(f"{key} in --fix", str(value), words[key])
            pins[key] = words[key].index(str(value))
        elif key not in ("precision", "global_batch", "seq_len"):
            pins[key] = int(value)
    if not 0 <= pins.get("zero", 0) < len(ZERO):
        raise InputError(f"--fix zero={pins['zero']}: ZeRO stages are 0, 1, 2 and 3")
    return pins


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """All combinations of the axes: those whose outer axes obey the rules, the rest as counts."""

    layout: Layout
    """`[N]` columns of what is left after the outer axes; N may be 0."""
    total: int
    """Combinations before any rule."""
    rejected: dict[str, int]
    """Reason -> combinations that fell with their outer axes."""


def enumerate_layouts(q: Question) -> Space:
    """Return the space of a question's layouts.

    The outer axes are tried first with every inner axis at its most lenient value: a rule broken
    there is broken for all inner values, so none of them need be written out.
    """
    pins = _pins(q)
    axes = {name: [pins[name]] if name in pins else values for name, values in _axes(q).items()}
    inner = {name: values for name, values in axes.items() if name not in OUTER}
    lenient = {name: values[:1] for name, values in inner.items()}
    outer = _columns({name: axes[name] for name in OUTER} | lenient)
    layout = _layout(q, pins, outer)
    each = math.prod(len(values) for values in inner.values())
    alive, rejected = apply_rules(q, layout)
    kept = {name: column[alive] for name, column in outer.items() if name in OUTER}
    crossed = _columns(inner)
    count = int(np.count_nonzero(alive))
    columns = {name: np.repeat(column, each) for name, column in kept.items()}
    columns |= {name: np.tile(column, count) for name, column in crossed.items()}
    return Space(
        layout=_layout(q, pins, columns),
        total=each * alive.size,
        rejected={reason: each * fallen for reason, fallen in rejected.items()},
    )


def _columns(axes: Mapping[str, list[int]]) -> dict[str, NDArray[np.float64]]:
    grids = np.meshgrid(*(np.array(v, dtype=float) for v in axes.values()), indexing="ij")
    return {name: grid.ravel() for name, grid in zip(axes, grids, strict=True)}


def apply_rules(q: Question, layout: Layout) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return the mask of candidates that obey every rule, and how many fell to which first."""
    alive = np.ones(np.size(layout.tp), dtype=bool)
    rejected: dict[str, int] = {}
    for reason, broken in broken_rules(q, layout):
        if count := int(np.count_nonzero(alive & broken)):
            rejected[reason] = count
            alive &= ~broken
    return alive, rejected


def _layout(
    q: Question, pins: Mapping[str, int], column: Mapping[str, NDArray[np.float64]]
) -> Layout:
    """Complete the searched columns: axes without a search of their own follow.

    Sequence parallelism wherever there is tensor parallelism, interleaving wherever there are
    several chunks, all data-parallel ranks sharding unless pinned.
    """
    dp = np.floor(q.gpus / (column["tp"] * column["pp"] * column["cp"]))
    shard, replicate = _data_ranks(dp, pins)
    interleaved, plain = float(schedule_code("interleaved")), float(schedule_code("1f1b"))
    schedule = np.where(column["vpp"] > 1, interleaved, plain)
    expert_tp = column["tp"] if q.stack.expert_tp and q.model.experts else np.ones_like(dp)
    offload = OFFLOADS[pins.get("offload", 0)]
    return Layout(
        **column,
        dp_shard=shard,
        dp_replicate=replicate,
        sequence_parallel=(column["tp"] > 1) * 1.0,
        schedule=np.full_like(dp, pins["schedule"]) if "schedule" in pins else schedule,
        etp=np.full_like(dp, pins["etp"]) if "etp" in pins else expert_tp,
        offload_optimizer=float(offload == "optimizer"),
        offload_activations=float(offload == "activations"),
    )


def _data_ranks(
    dp: NDArray[np.float64], pins: Mapping[str, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split data-parallel ranks into (shard, replicate); a rule catches what does not multiply."""
    if "dp_shard" in pins:
        shard = np.full_like(dp, pins["dp_shard"])
        rest = np.maximum(np.floor(dp / shard), 1)
        return shard, np.full_like(dp, pins["dp_replicate"]) if "dp_replicate" in pins else rest
    replicate = np.full_like(dp, pins.get("dp_replicate", 1))
    return np.maximum(np.floor(dp / replicate), 1), replicate


def take(layout: Layout, index: NDArray[np.intp] | NDArray[np.bool_] | slice | int) -> Layout:
    """Select candidates of a layout; plain numbers stay as they are."""
    picked = {
        f.name: value[index] if isinstance(value := getattr(layout, f.name), np.ndarray) else value
        for f in fields(layout)
    }
    return replace(layout, **picked)


def broken_rules(q: Question, layout: Layout) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield (reason, mask) for every rule a candidate may break, the cost room's rules first."""
    yield from rules(layout, q.shape, q.global_batch, q.gpus, q.seq_len)
    stage = layers_per_stage(layout, q.shape.layers)
    chunks = np.greater(layout.vpp, 1)
    scheduled = np.equal(layout.schedule, schedule_code("interleaved"))
    pinned = q.request.fix
    yield "virtual stages without a pipeline", chunks & np.equal(layout.pp, 1)
    yield (
        "vpp does not divide a stage's layers",
        chunks & np.not_equal(np.mod(stage, layout.vpp), 0),
    )
    yield "several chunks need the interleaved schedule", chunks & ~scheduled
    if "zero" not in pinned:
        yield (
            "weights sharded over one rank",
            np.equal(layout.zero, 3) & np.equal(layout.dp_shard, 1),
        )
        yield (
            "fully sharded weights inside a pipeline",
            np.equal(layout.zero, 3) & np.greater(layout.pp, 1),
        )
    if "recompute" not in pinned:
        flash = bool(q.stack.flash)
        yield (
            "selective recompute saves nothing beside a flash kernel",
            np.equal(layout.recompute, RECOMPUTE.index("selective"))
            & (flash and float(q.stack.selective_kept) == 1.0),
        )
