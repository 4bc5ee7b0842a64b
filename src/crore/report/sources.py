"""What a plan rests on: every assumption with its range and source, and what nobody modelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crore.catalog.economics import load_economics
from crore.catalog.supply import scenario
from crore.cost.goodput import HAZARD_PER_GPU_S
from crore.cost.outlay import RUN, assumptions
from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.economy import scenario_of
from crore.plan.figures import subject_of
from crore.report.marks import table
from crore.units import format_duration, three_digits

NOT_MODELLED: Final = (
    "loading data, evaluating and saving: what they need of storage is checked, not timed",
    "silent corruption, stragglers that stay and maintenance: crore simulate draws them",
    "networks shared with others, and routes that collide: crore simulate draws broken links",
    "heat: cards that slow down when they get warm",
    "land, permits and queues for the grid: only the power a site is fed",
    "people: neither those who build it nor those who run it",
    "whether the model is worth it: loss is not predicted, only tokens seen",
)


def assumption_table(plan: Plan) -> Record:
    """Return every range and source that a plan's numbers depend on, as a table."""
    head = ["assumption", "value", "range", "source"]
    return table("what the numbers rest on", head, _rows(plan))


def _rows(plan: Plan) -> Iterator[list[str]]:
    q = plan.question
    part = q.accelerator
    yield ["model", q.model.name, "", q.model.provenance.source]
    yield ["GPU", part.name, "", part.provenance.source]
    yield ["training software", q.stack_name, "", q.abilities.source]
    for line in q.derived:
        yield ["derived", line, "", "crore's default"]
    yield ["failures of a GPU", f"one in {format_duration(1 / HAZARD_PER_GPU_S)}", "",
           "419 in 54 days on 16,384 H100 (arXiv 2407.21783)"]  # fmt: skip
    found = assumptions(subject_of(plan), load_economics().of(part.name), part.name)
    for name, it in found.items():
        if name != RUN:
            low, value, high = it.spread
            yield [name.replace("_", " "), three_digits(value), _range(low, high), it.source]
    course = scenario(scenario_of(q))
    yield ["supply", course.title, "", course.provenance.source]
    for name, figure in course.figures.items():
        low, value, high = figure.spread()
        source = figure.provenance.source
        yield [f"supply: {name.replace('_', ' ')}", three_digits(value), _range(low, high), source]


def _range(low: float, high: float) -> str:
    return "" if low == high else f"{three_digits(low)} to {three_digits(high)}"
