"""A written plan made again: its request resolved, its own layout priced anew, nothing searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from crore.cost import Job, Memory, fitted_constants, memory, operations
from crore.cost.layout import RECOMPUTE, ZERO, Layout
from crore.cost.measured import MeasuredPricer
from crore.cost.operations import Operation
from crore.cost.price import Pricer
from crore.cost.schedules import SCHEDULE_NAMES
from crore.cost.step_time import Stages, Tally, exposed_messages, pricer_of, stages, tally
from crore.errors import InputError, UnknownName, shown
from crore.io import Record, check_keys
from crore.plan.answer import Plan
from crore.plan.best import Ranked
from crore.plan.candidates import Candidates, compact
from crore.plan.figures import Figures, figures_of, figures_record
from crore.plan.objectives import with_gpus
from crore.plan.plan import describe
from crore.plan.pricing import job_for
from crore.plan.record import one_plan
from crore.plan.request import Question
from crore.plan.resolve import resolve
from crore.plan.saved import request_from

REQUIRED = ("request", "layout", "gpus", "gpus_available", "worlds", "islands")
WORDS: Mapping[str, tuple[str, ...]] = {
    "schedule": SCHEDULE_NAMES,
    "recompute": RECOMPUTE,
    "zero": ZERO,
}
COUNTS = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp", "micro_batch",
          "micro_batches")  # fmt: skip
SPREAD = ("low", "value", "high")
Number = int | float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One plan of a file, priced again, and what its price is made of."""

    record: Record
    """The plan as the file has it."""
    plan: Plan

    @property
    def question(self) -> Question:
        """What was asked, with every name looked up."""
        return self.plan.question

    @cached_property
    def numbers(self) -> dict[str, Number]:
        """Numbers of the plan made again, by key."""
        return leaves({**one_plan(self.plan), **figures_record(self.figures)})

    @cached_property
    def figures(self) -> Figures:
        """What the plan takes, drawn again with the same seed."""
        return figures_of(self.plan)

    @cached_property
    def job(self) -> Job:
        """The question put to the cost model, on the network the plan runs on."""
        plan = self.plan
        return job_for(plan.question, compact(plan.chosen), plan.network.machine)

    @cached_property
    def ops(self) -> list[Operation]:
        """Every operation of a step."""
        return operations(self.job)

    @cached_property
    def pricer(self) -> Pricer | MeasuredPricer:
        """Prices them."""
        return pricer_of(self.job, fitted_constants())

    @cached_property
    def total(self) -> Tally:
        """Seconds of one micro-batch and of what comes once per step."""
        return tally(self.ops, self.pricer)

    @cached_property
    def exposed(self) -> dict[str, Any]:
        """Seconds per micro-batch that each axis adds."""
        return exposed_messages(self.job, self.total, self.pricer.constants)

    @cached_property
    def stages(self) -> Stages:
        """Times of the pipeline's ranks."""
        seen = sum(self.exposed.values())
        return stages(self.job, self.total, seen, self.pricer.constants)

    @cached_property
    def held(self) -> Memory:
        """Memory of the worst rank."""
        return memory(self.job, self.ops)


def leaves(record: Any, prefix: str = "") -> dict[str, Number]:
    """Return every number of a JSON value by its key: `days.low`, `limits.data.value`.

    Members of a list go by their name (of a fit, their mode), a spread's by low, value and high,
    others by their place from 1. Words and switches are no numbers.
    """
    if isinstance(record, bool) or record is None or isinstance(record, str):
        return {}
    if isinstance(record, (int, float)):
        return {prefix: record}
    found: dict[str, Number] = {}
    for name, value in _members(record):
        found |= leaves(value, f"{prefix}.{name}" if prefix else name)
    return found


def _members(record: Any) -> list[tuple[str, Any]]:
    if isinstance(record, Mapping):
        return [(str(name), value) for name, value in record.items()]
    numbers = [it for it in record if isinstance(it, (int, float))]
    if len(numbers) == len(record) == len(SPREAD):
        return list(zip(SPREAD, record, strict=True))
    return [(_name_of(it) or str(place), it) for place, it in enumerate(record, 1)]


def _name_of(member: Any) -> str:
    if not isinstance(member, Mapping):
        return ""
    return str(member.get("name") or str(member.get("mode") or "").replace(" ", "_"))


def chosen_from(record: Record) -> Candidates:
    """Return the layout a plan chose; InputError when it is not one of that many GPUs."""
    layout = record["layout"]
    if not isinstance(layout, Mapping):
        raise InputError(f"the plan's layout must be an object, not {shown(layout)}")
    names = [f.name for f in fields(Layout)]
    missing = [name for name in (*names, "micro_batches") if name not in layout]
    if missing:
        raise InputError(f"the plan's layout lacks {', '.join(missing)[:120]}")
    values = {name: _number(name, layout[name]) for name in (*names, "micro_batches")}
    wrong = [name for name in COUNTS if values[name] < 1 or not values[name].is_integer()]
    if wrong:
        raise InputError(f"the plan's layout: {wrong[0]} must be a whole number of at least 1")
    worlds, islands, gpus = (_number(key, record[key]) for key in ("worlds", "islands", "gpus"))
    batch = values.pop("micro_batches")
    made = Layout(**values)
    if min(worlds, islands) < 1 or made.gpus * islands != gpus:
        raise InputError(
            f"the plan's layout makes {made.gpus * islands:,.0f} GPUs on {islands:g} islands, not "
            f"the {gpus:,.0f} it names: make the plan again"
        )
    batch = batch * float(made.dp) * float(made.micro_batch)
    return Candidates(layout=made, islands=islands, worlds=worlds / islands, batch=batch)


def _number(name: str, value: Any) -> float:
    if name in WORDS:
        if value not in WORDS[name]:
            raise UnknownName(f"{name} of the plan", str(value), WORDS[name])
        return float(WORDS[name].index(value))
    if not isinstance(value, (int, float)):
        raise InputError(f"the plan's {name} must be a number, not {shown(value)}")
    return float(value)


def case_of(record: Record, where: str, alternative: int = 0) -> Case:
    """Return a file's plan, or its n-th alternative, priced again.

    Raises InputError for a file that holds no whole plan, and as `resolve` does.
    """
    check_keys(record, record, where, required=REQUIRED)
    asked = record["alternatives"][alternative - 1] if alternative else record
    own = REQUIRED[1:]
    if not isinstance(asked, Mapping):
        raise InputError(f"{where}: alternative {alternative} must be an object")
    check_keys(asked, asked, f"{where}: alternative {alternative}", required=own)
    q = resolve(request_from(record["request"], where))
    chosen = chosen_from(dict(asked))
    available = int(_number("gpus_available", asked["gpus_available"]))
    if available != q.gpus:
        q = with_gpus(q, available)
    # `describe` prices the candidate; the ranking's own numbers are not read.
    ranked = Ranked(run_s=0.0, step_s=0.0, peak_bytes=0.0, candidate=chosen)
    return Case(record={**asked, "request": record["request"]}, plan=describe(q, ranked))
