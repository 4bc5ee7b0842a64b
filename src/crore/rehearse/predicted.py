"""What the planner says of one rank's step: its messages and FLOPs, from its operation list."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import numpy as np

from crore.catalog import load_catalog
from crore.cost import Job, Layout, machine_of, operations, shape_of, stack_of
from crore.cost.job import Place
from crore.cost.layout import RECOMPUTE
from crore.cost.operations import Operation
from crore.cost.schedules import schedule_code
from crore.model.expert import in_turn
from crore.model.split import Split, layers_of_stage, stage_of_chunk
from crore.model.supported import is_mixture
from crore.rehearse.trace import Work

STACK: Final = "crore"
PART: Final = "h100-sxm"
"""A part that has every format; what is sent and computed does not depend on it."""
P2P: Final = ("p2p", "receive")
SAID_TO_WORLDS: Final = 2 * 8
"""Bytes of seconds of work and checksum, summed over a world before its island hears them."""
EXACT: Final = 1e-6
"""Largest distance of a count or a size from a whole number."""


def predicted_messages(
    work: Work, rank: int, *, cpu: bool = True
) -> list[tuple[str, str, int, int]]:
    """Return (axis, collective, bytes, count) of a rank's step, a send or a receive as `p2p`.

    Among other worlds, whose sums are two numbers more than those of the planner's one world.
    """
    job = job_of(work, rank, cpu=cpu)
    found: Counter[tuple[str, str, int]] = Counter()
    for op in operations(job):
        count = _whole(op.count * _repeats(job, op))
        if op.kind == "collective" and count:
            size = _whole(op.message_bytes * job.machine.element_scale)
            if op.axis == "world" and work.around.worlds > 1:
                size += SAID_TO_WORLDS
            found[op.axis, "p2p" if op.collective in P2P else op.collective, size] += count
    return sorted((*key, count) for key, count in found.items())


def predicted_flops(work: Work, rank: int, *, cpu: bool = True) -> float:
    """Return the FLOPs of a rank's step: products and attention, recompute included."""
    job = job_of(work, rank, cpu=cpu)
    place = job.place
    assert place is not None
    here = {"first": place.first, "last": place.last}
    return sum(
        float(np.asarray(op.flops * op.count)) * _repeats(job, op) * float(here.get(op.stage, 1.0))
        for op in operations(job)
        if op.kind in ("gemm", "attention")
    )


def job_of(work: Work, rank: int, *, cpu: bool = True) -> Job:
    """Return the planner's question about one rank of a world, of processors or of cards."""
    split, spec = work.split, work.spec
    part = machine_of(load_catalog().accelerator(PART), split.precision)
    return Job(
        shape=shape_of(spec), layout=layout_of(split), stack=stack_of(STACK),
        machine=replace(part, cpu=float(cpu)),
        seq_len=float(work.seq_len), global_batch=float(work.global_batch),
        imbalance=_imbalance(work, rank), place=place_of(work, rank),
    )  # fmt: skip


def layout_of(split: Split) -> Layout:
    """Return a split as the planner's layout."""
    names = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp", "micro_batch",
             "zero", "sequence_parallel")  # fmt: skip
    return Layout(
        **{name: float(getattr(split, name)) for name in names},
        schedule=float(schedule_code(split.schedule)),
        recompute=float(RECOMPUTE.index(split.recompute)),
        recompute_layers=float(split.recompute_layers or -1),
    )


def place_of(work: Work, rank: int) -> Place:
    """Return what a rank holds of the pipeline, by the trainer's own rule of cutting."""
    split, spec = work.split, work.spec
    own = rank // (split.ranks // split.pp)
    stages = [stage_of_chunk(split, own, chunk) for chunk in range(split.chunks)]
    owner = {stage_of_chunk(split, p, c): p for p in range(split.pp) for c in range(split.chunks)}
    layers = [n for stage in stages for n in layers_of_stage(spec.layers, split.stages, stage)]
    last = split.stages - 1
    return Place(
        layers=float(len(layers)), moe=float(sum(is_mixture(spec, n) for n in layers)),
        first=float(0 in stages), last=float(last in stages),
        sends=float(sum(s < last and owner[s + 1] != own for s in stages)),
        receives=float(sum(s > 0 and owner[s - 1] != own for s in stages)),
    )  # fmt: skip


def _imbalance(work: Work, rank: int) -> float:
    """Return the rows a rank's experts get over the mean, where tokens go to experts in turn."""
    split, spec = work.split, work.spec
    if not spec.experts:
        return 1.0
    parts = split.cp * (split.tp if split.sequence_parallel else 1)
    rows = split.micro_batch * work.seq_len // parts * spec.topk
    mine = in_turn(rows, spec.experts, split.ep)[rank % split.ep]
    return mine * split.ep / rows


def _repeats(job: Job, op: Operation) -> float:
    return float(job.micro_batches) if op.repeat == "micro_batch" else 1.0


def _whole(value: object) -> int:
    number = float(np.asarray(value))
    assert abs(number - round(number)) < EXACT * max(1.0, number), number
    return round(number)
