"""A plan's optimizer step drawn from the planner's own operation list, one pipeline of it.

Passes are played event by event (`events`); gradients, optimizer and waiting for the slowest rank
follow as the planner prices them. Messages between stages take their time beside the compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from crore.cost import Job, fitted_constants, operations, step_time
from crore.cost.step_time import pricer_of
from crore.cost.stragglers import barrier_slowdown
from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.candidates import compact
from crore.plan.explain.again import case_of
from crore.plan.pricing import job_for
from crore.simulate.schedules.draw import Drawing, Slice, draw_passes, drawn_ranks
from crore.simulate.schedules.events import Played, simulate_schedule
from crore.simulate.schedules.tail import Tail, tail_of
from crore.simulate.schedules.trace import trace_of
from crore.simulate.schedules.work import Work, work_of

MAX_SLICES: Final = 80_000
"""Of one trace: below 20 MB of JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """One step of one pipeline; seconds from its first pass on."""

    step_s: float
    """As played, waiting for the slowest rank of the world included."""
    planned_s: float
    """As the planner's closed forms have it."""
    micro_batches: int
    work: Work
    """What each chunk does for a micro-batch."""
    played: Played
    """When: all passes of all ranks."""
    ranks: tuple[int, ...]
    """Pipeline ranks drawn."""
    slices: tuple[Slice, ...]
    left_out: str
    """What is not drawn, in words; empty when all is."""

    @property
    def gap(self) -> float:
        """The played step over the planned one, less one."""
        return self.step_s / self.planned_s - 1

    def trace(self) -> dict[str, Any]:
        """Return the step in Chrome's trace format, as Perfetto and chrome://tracing read it."""
        about = {
            "schedule": self.work.schedule, "micro_batches": self.micro_batches,
            "step_s": self.step_s, "planned_step_s": self.planned_s,
            "pipeline_ranks": len(self.work.layers), "drawn_ranks": list(self.ranks),
            "left_out": self.left_out,
        }  # fmt: skip
        return trace_of(self.slices, {rank: self._title(rank) for rank in self.ranks}, about)

    def _title(self, rank: int) -> str:
        stages = ", ".join(map(str, self.work.stage[rank]))
        count = int(self.work.layers[rank].sum())
        return f"pipeline rank {rank}: stage {stages}; {count} layer{'s' * (count != 1)}"


def step_timeline(record: Record, where: str = "the plan", alternative: int = 0) -> Timeline:
    """Return the step of a plan file's record, its own layout priced anew.

    `alternative` counts the file's other plans from 1. Raises InputError for a record that holds no
    whole plan, and where its schedule cannot run its micro-batches.
    """
    return plan_timeline(case_of(record, where, alternative).plan)


def plan_timeline(plan: Plan) -> Timeline:
    """Return the step of a plan on the network it will run on; errors as `job_timeline`."""
    return job_timeline(job_for(plan.question, compact(plan.chosen), plan.network.machine))


def job_timeline(job: Job, max_slices: int = MAX_SLICES) -> Timeline:
    """Return the step of one job, every field of it a single number.

    Raises InputError where its schedule cannot run its micro-batches.
    """
    ops = operations(job)
    pricer = pricer_of(job, fitted_constants())
    work = work_of(job, ops, pricer)
    micro_batches = round(float(job.micro_batches))
    played = simulate_schedule(work.schedule, micro_batches, work.times)
    tail = tail_of(job, ops, pricer, float(work.rank_s.max()), played)
    slow = float(barrier_slowdown(job.layout.gpus))
    ranks = drawn_ranks(len(work.layers))
    passes = draw_passes(work, played, ranks, max_slices)
    return Timeline(
        step_s=tail.end_s * slow,
        planned_s=float(step_time(job, fitted_constants(), ops).step_s),
        micro_batches=micro_batches, work=work, played=played, ranks=ranks,
        slices=(*passes.slices, *tail.slices(ranks), *_waiting(ranks, tail, slow)),
        left_out=_left_out(passes, micro_batches, len(work.layers), len(ranks)),
    )  # fmt: skip


def _waiting(ranks: tuple[int, ...], tail: Tail, slow: float) -> list[Slice]:
    """Return what the noise of all ranks adds, drawn where it is paid: at the end."""
    name, lost_s = "waiting for the slowest rank of the world", tail.end_s * (slow - 1)
    return [Slice(rank, "compute", name, tail.end_s, lost_s, {}) for rank in ranks]


def _left_out(passes: Drawing, micro_batches: int, ranks: int, drawn: int) -> str:
    lines = []
    if drawn < ranks:
        lines.append(f"{ranks - drawn} of {ranks} pipeline ranks, alike but for their place")
    if passes.left_out:
        lines.append(
            f"{passes.left_out} of {micro_batches} micro-batches in the middle, when the pipe is "
            "full: they were played, and their time is in the step"
        )
    return "; ".join(lines)
