"""A plan's optimizer step drawn from the planner's own operation list, one pipeline of it.

Passes are played event by event (`events`); gradients, optimizer and waiting for the slowest rank
follow as the planner prices them. Messages between stages take their time beside the compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from crore.cost import Job, fitted_constants, operations, step_time
from crore.cost.schedules import SCHEDULES, schedule_code
from crore.cost.step_time import pricer_of
from crore.cost.stragglers import barrier_slowdown
from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.candidates import compact
from crore.plan.explain.again import case_of
from crore.plan.pricing import job_for
from crore.simulate.schedules.draw import Drawing, Slice, draw_passes, drawn_ranks
from crore.simulate.schedules.events import Played, simulate_schedule
from crore.simulate.schedules.order import rounds
from crore.simulate.schedules.tail import Tail, tail_of
from crore.simulate.schedules.trace import trace_of
from crore.simulate.schedules.work import Work, work_of

MAX_SLICES: Final = 80_000
"""Of one trace: below 20 MB of JSON."""
MAX_PASSES: Final = 500_000
"""Played, forward and backward: some 5 s."""
FILLED: Final = 4
"""Rounds of a micro-batch per rank that are always played: the pipe is full for half of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """One step of one pipeline; seconds from its first pass on."""

    step_s: float
    """As played, waiting for the slowest rank of the world included: from one step to the next."""
    overlap_s: float
    """Of the step drawn, the end that its next one overlaps, where a schedule's steps do."""
    planned_s: float
    """As the planner's closed forms have it."""
    micro_batches: int
    work: Work
    """What each chunk does for a micro-batch."""
    played: Played
    """When: the passes of all ranks."""
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
            "next_step_overlaps_s": self.overlap_s,
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
    count = played_micro_batches(work, micro_batches, MAX_PASSES)
    played = simulate_schedule(work.schedule, count, work.times)
    slowest_s = float(work.rank_s.max())
    more_s = (micro_batches - count) * slowest_s
    tail = tail_of(job, ops, pricer, played, slowest_s=slowest_s, more_s=more_s)
    slow = float(barrier_slowdown(job.layout.gpus))
    overlap_s = _overlap_s(work.schedule, played)
    lost_s = (tail.end_s - overlap_s) * (slow - 1)
    ranks = drawn_ranks(len(work.layers))
    passes = draw_passes(work, played, ranks, max_slices)
    return Timeline(
        step_s=tail.end_s - overlap_s + lost_s, overlap_s=overlap_s,
        planned_s=float(step_time(job, fitted_constants(), ops).step_s),
        micro_batches=micro_batches, work=work, played=played, ranks=ranks,
        slices=(*passes.slices, *tail.slices(ranks), *_waiting(ranks, tail, lost_s)),
        left_out=_left_out(passes, micro_batches - count, len(work.layers), len(ranks)),
    )  # fmt: skip


def played_micro_batches(work: Work, micro_batches: int, most: int) -> int:
    """Return how many micro-batches to play for at most some `most` passes: all, or whole rounds.

    Those left out come when the pipe is full, and each takes what it takes on the slowest rank.
    """
    ranks, chunks = (int(n) for n in work.layers.shape)
    if 2 * ranks * chunks * micro_batches <= most:
        return micro_batches
    count = rounds(ranks, micro_batches) if work.schedule == "interleaved" else micro_batches
    each = micro_batches // count
    even = 2 if work.schedule == "dualpipe" else 1
    fewest = FILLED * ranks
    wanted = max(fewest, most // (2 * ranks * chunks))
    return min(micro_batches, -(-wanted // (each * even)) * each * even)


def _overlap_s(schedule: str, played: Played) -> float:
    """Return how much of a step's end the next one overlaps on the rank that takes longest."""
    if not SCHEDULES[schedule_code(schedule)].steps_overlap:
        return 0.0
    return float(played.makespan_s[0] - played.span_s[:, 0].max())


def _waiting(ranks: tuple[int, ...], tail: Tail, lost_s: float) -> list[Slice]:
    """Return what the noise of all ranks adds, drawn where it is paid: at the end."""
    name = "waiting for the slowest rank of the world"
    return [Slice(rank, "compute", name, tail.end_s, lost_s, {}) for rank in ranks]


def _left_out(passes: Drawing, unplayed: int, ranks: int, drawn: int) -> str:
    lines = []
    if drawn < ranks:
        lines.append(f"{ranks - drawn} of {ranks} pipeline ranks, alike but for their place")
    if passes.left_out:
        lines.append(
            f"{passes.left_out} micro-batches in the middle, when the pipe is full: they were "
            "played, and their time is in the step"
        )
    if unplayed:
        lines.append(
            f"{unplayed} micro-batches that were not played, for there are too many: each takes "
            "what it takes on the slowest rank"
        )
    return "; ".join(lines)
