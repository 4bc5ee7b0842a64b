"""A plan is rehearsed: ranks traced, held against the planner, against each other and the card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.model.refuse import check_runnable
from crore.rehearse.above import compare_above
from crore.rehearse.agree import Finding, RankList, disagreements
from crore.rehearse.classes import Reach, representatives, untraced
from crore.rehearse.compare import Row, compare
from crore.rehearse.fake import rehearse
from crore.rehearse.place import Fleet, Place, around_of, fleet_of, work_of
from crore.rehearse.predicted_memory import fewer_on_a_card
from crore.rehearse.trace import Trace, Work
from crore.units import format_bytes

Watch: TypeAlias = Callable[[float, str], None]
"""Called with the share done and what is traced next."""
STACK = "crore"


def needed_bytes(plan: Mapping[str, Any], work: Work, trace: Trace) -> float:
    """Return the bytes that a card must have for a step, context and fragmentation as planned.

    The traced peak less what a card's kernels keep less, as planned.
    """
    parts = plan["memory_split_bytes"]
    context = float(parts.get("context", 0.0))
    tensors = sum(size for name, size in parts.items() if name not in ("context", "fragmentation"))
    more = 1 + (parts.get("fragmentation", 0.0) / tensors if tensors else 0.0)
    return float((trace.peak_bytes - fewer_on_a_card(work, trace.rank)) * more + context)


@dataclass(kw_only=True, slots=True)
class Rehearsal:
    """What was rehearsed so far; `interrupted` where it was cut short."""

    plan: Mapping[str, Any]
    work: Work
    fleet: Fleet
    gpu: int
    """The one asked for, in the fleet."""
    place: Place
    traces: list[Trace] = field(default_factory=list)
    rows: dict[int, list[Row]] = field(default_factory=dict)
    """By rank in its world."""
    needed_bytes: dict[int, float] = field(default_factory=dict)
    """What a card needs, by rank in its world."""
    findings: list[Finding] = field(default_factory=list)
    untraced: list[int] = field(default_factory=list)
    """Pipeline ranks of which no rank was traced."""
    interrupted: bool = False

    @property
    def agrees(self) -> bool:
        """Whether all numbers are within their tolerance and nothing would hang or not fit."""
        return not self.findings and all(row.same for rows in self.rows.values() for row in rows)


def rehearse_plan(
    plan: Mapping[str, Any], spec: ModelSpec, gpu: int, reach: Reach = "near",
    watch: Watch | None = None, *, fleet: Fleet | None = None,
) -> Rehearsal:  # fmt: skip
    """Trace a GPU of a plan's fleet and the ranks that stand for its world; compare and match them.

    A `fleet` stands in for the plan's: its world so many times.

    Ctrl-C ends it with what is done. Raises InputError for a plan of another stack, for a layout
    that the trainer does not run, and for a GPU that the fleet does not have.
    """
    if plan["stack"] != STACK:
        raise InputError(
            f"the plan is for stack {plan['stack']}, and a rehearsal runs crore's own trainer: "
            "plan it with --stack crore"
        )
    fleet = fleet or fleet_of(plan)
    place = fleet.place(gpu)
    work = replace(work_of(plan, spec), around=around_of(plan, fleet, place))
    split = work.split
    check_runnable(
        spec, split, seq_len=work.seq_len, global_batch=work.global_batch, device="cpu",
        compiled=False,
    )  # fmt: skip
    ranks = representatives(split, place.rank, reach)
    done = Rehearsal(plan=plan, work=work, fleet=fleet, gpu=gpu, place=place)
    try:
        for index, rank in enumerate(ranks):
            if watch is not None:
                watch(index / len(ranks), f"rank {rank:,} of {split.ranks:,}")
            _add(done, rehearse(work, rank))
    except KeyboardInterrupt:
        done.interrupted = True
    done.untraced = untraced(split, [trace.rank for trace in done.traces])
    if len(done.traces) > 1:
        done.findings += disagreements([_list(trace) for trace in done.traces])
    return done


def _add(done: Rehearsal, trace: Trace) -> None:
    done.traces.append(trace)
    done.rows[trace.rank] = [*compare(done.work, trace), *compare_above(done.work, trace)]
    needed = needed_bytes(done.plan, done.work, trace)
    done.needed_bytes[trace.rank] = needed
    done.findings += does_not_fit(done.plan, done.work, trace, needed)


def _list(trace: Trace) -> RankList:
    return RankList(rank=trace.rank, messages=trace.messages, groups=trace.groups)


def does_not_fit(plan: Mapping[str, Any], work: Work, trace: Trace, needed: float) -> list[Finding]:
    """Return what a rank's card does not have the bytes for."""
    have, each = float(plan["memory_capacity_bytes"]), work.split.ranks // work.split.pp
    if needed <= have:
        return []
    who = f"rank {trace.rank} (pipeline rank {trace.rank // each} of {work.split.pp})"
    return [
        Finding(
            kind="memory", ranks=(trace.rank,),
            text=f"{who} needs {format_bytes(needed)} of {format_bytes(have)}: "
            f"{format_bytes(needed - have)} over",
        )
    ]  # fmt: skip
