"""Seconds of one micro-batch by itself, for several ways to share the model's states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from crore.cost.arrays import Num
from crore.cost.constants import Constants
from crore.cost.job import Job
from crore.cost.step import computing_operations, operations_of, passes_of, sharing_operations
from crore.cost.step_time import added, pricer_of, tally


def micro_batch_seconds(
    job: Job, c: Constants, zeros: Sequence[float]
) -> Iterator[tuple[Num, Num]]:
    """Yield seconds of one micro-batch on the slowest stage and of the bubble, for ZeRO stages.

    Without stragglers, and without what is done once per step.
    """
    computing = passes_of(job, computing_operations(job))
    alike = tally(computing, pricer_of(job, c))
    for zero in zeros:
        staged = replace(job, layout=replace(job.layout, zero=zero))
        pricer, ops = pricer_of(staged, c), operations_of(staged, sharing_operations(staged))
        total = tally([op for op in ops if op.repeat != "step"], pricer, alike)
        it = added(staged, total, pricer.constants)
        yield it.at.slowest, it.waits.bubble_s
