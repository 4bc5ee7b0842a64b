"""What a plan rests on: every assumption with its range and source, and what nobody modelled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from crore.catalog.economics import load_economics
from crore.catalog.reliability import load_reliability
from crore.catalog.supply import scenario
from crore.cost.goodput import HAZARD_PER_GPU_S
from crore.cost.outlay import RUN, assumptions
from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.economy import scenario_of
from crore.plan.figures import subject_of
from crore.plan.text.takes import WORDS
from crore.report.marks import table
from crore.units import (
    format_duration,
    format_kg,
    format_percent,
    format_usd,
    format_watts,
    three_digits,
)

NOT_MODELLED: Final = (
    "loading data, evaluating and saving: what they need of storage is checked, not timed",
    "silent corruption, stragglers that stay and maintenance: crore simulate draws them",
    "networks shared with others, and routes that collide: crore simulate draws broken links",
    "heat: cards that slow down when they get warm",
    "land, permits and queues for the grid: only the power a site is fed",
    "people, but for the share of upkeep: neither who builds it nor who runs it",
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
    source = load_reliability().observed.provenance.source
    yield ["failures of a GPU", f"one in {format_duration(1 / HAZARD_PER_GPU_S)}", "", source]
    for name, share in causes():
        yield [f"failures: {name}", format_percent(share), "", source]
    found = assumptions(subject_of(plan), load_economics().of(part.name), part.name)
    for name, it in found.items():
        if name != RUN:
            yield [*_told(name, it.spread), it.source]
    course = scenario(scenario_of(q))
    yield ["supply", course.title, "", course.provenance.source]
    for name, figure in course.figures.items():
        called, value, ends = _told(name, figure.spread())
        yield [f"supply: {called}", value, ends, figure.provenance.source]


def causes() -> list[tuple[str, float]]:
    """Return what fails with its share of all that does, as counted, most first."""
    counted = [cause for cause in load_reliability().causes if cause.count]
    whole = sum(cause.count for cause in counted)
    most = sorted(counted, key=lambda cause: -cause.count)
    return [(_cause(cause.name), cause.count / whole) for cause in most]


def _cause(name: str) -> str:
    """Return a cause as one says it: `gpu-hbm` is `GPU HBM`."""
    parts = name.split("-")
    return " ".join(part.upper() if part in CAPITALS else part for part in parts)


CAPITALS: Final = ("gpu", "hbm", "sram", "nic", "nccl", "ssd", "cpu", "io")


def _told(name: str, spread: tuple[float, float, float]) -> tuple[str, str, str]:
    """Return an assumption's name without its unit, its value and its range with it."""
    low, value, high = (_with_unit(name, x) for x in spread)
    called = CALLED.get(name) or WORDS.get(name) or name.replace("_", " ")
    return called, value, "" if low == high else f"{low} to {high}"


def _with_unit(name: str, value: float) -> str:
    for ending, show in UNITS.items():
        if name.endswith(ending):
            return show(value)
    return (
        format_percent(value) if name in SHARES or name.endswith("_share") else three_digits(value)
    )


UNITS: Final[Mapping[str, Callable[[float], str]]] = {
    "_usd_per_kwh": lambda x: f"{format_usd(x)} per kWh",
    "_kg_per_kwh": lambda x: f"{format_kg(x)} per kWh",
    "_usd_per_w": lambda x: f"{format_usd(x)} per W",
    "_per_year": lambda x: f"{format_percent(x)} a year",
    "_years": lambda x: f"{three_digits(x)} years",
    "rental": lambda x: f"{format_usd(x)} per GPU-hour",
    "_kg": format_kg, "_w": format_watts,
}  # fmt: skip
"""Ending of a name -> how its value reads; a longer ending comes before its own end."""
SHARES: Final = ("cost_of_capital", "upkeep")
CALLED: Final = {
    "carbon_kg_per_kwh": "carbon of the grid", "embodied_kg": "carbon of making a GPU",
    "it_years": "life of servers", "facility_years": "life of halls", "site_w": "one site",
    "card_years": "life of a card", "host_w": "host, per GPU", "network_w": "network, per GPU",
    "facility_usd_per_w": "halls and power", "it_all_in": "machines over GPUs and hosts",
    "attrition_per_year": "attrition", "life_years": "life of a unit",
    "doubling_years": "speed doubles in", "h100_equivalents": "a unit, in H100s",
    "rental": "rental",
}  # fmt: skip
"""Name of an assumption -> what it is called; others are called as in `takes.WORDS`."""
