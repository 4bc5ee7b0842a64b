"""The paragraph that a page begins with: fits, how long, how much, what breaks first, how sure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crore.io import Record
from crore.report.marks import spread
from crore.report.points import days_text, in_words, quarter, recovery
from crore.report.sources import causes
from crore.report.swing import swings
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_kg,
    format_percent,
    format_usd,
    format_watts,
)

SURE: Final = {
    "measured": "measured on this machine",
    "fitted": "within what published runs were fitted on",
    "published": "as published",
    "extrapolated": "extrapolated beyond the runs that were fitted on: the ranges are estimates",
}

FEW: Final = 3
"""Causes of failures that are named."""
LEAST: Final = 1e-3
"""Smaller shares are not worth their digits."""


def summary(plan: Record | None, reason: str, point: Record) -> list[str]:
    """Return the page's first paragraph, a sentence each."""
    if plan is None:
        return [f"{reason}.", *(f"{line[0].upper()}{line[1:]}." for line in point["change"])]
    return list(_sentences(plan))


def _sentences(plan: Record) -> Iterator[str]:
    peak, all_of = plan["memory_bytes_per_gpu"], plan["memory_capacity_bytes"]
    size = format_count(plan["parameters"])
    yield (
        f"{plan['model']} ({size} parameters) on {format_int(plan['gpus'])} x {plan['gpu']} fits: "
        f"{format_bytes(peak)} of the {format_bytes(all_of)} of each GPU."
    )
    value, ends = days_text(plan["days"])
    yield f"{format_count(plan['tokens'])} tokens take {value}, failures included ({ends})."
    yield from _taken(plan)
    yield _breaks(plan)
    yield _binds(plan)
    evidence = plan["days"]["evidence"]
    yield (
        f"How sure: {SURE.get(evidence, evidence)}. Constants {plan['sources']['constants']}; "
        f"training software: {plan['sources']['stack']}. A range holds four cases in five."
    )


def _taken(plan: Record) -> Iterator[str]:
    cost, ends = spread(plan["cost_usd"], format_usd)
    bought = spread(plan["capital_usd"], format_usd)[0]
    if plan["cost_usd"] is None:
        yield f"What it costs is unknown ({plan['economy']['usd_basis']})."
    else:
        whole = f"; to buy all of it {bought}" if plan["capital_usd"] else ""
        yield f"It costs {_ranged(cost, ends)}, {plan['economy']['usd_basis']}{whole}."
    watts, ends = spread(plan["power_w"], format_watts)
    if plan["power_w"] is None:
        yield "Its power is unknown: no board limit is published."
        return
    energy = spread(plan["energy_j"], format_energy)[0]
    carbon = spread(plan["co2_kg"], format_kg)[0]
    yield f"It draws {_ranged(watts, ends)}, {energy} in all, with {carbon} of CO2."
    if said := swings(plan):
        yield f"Its load is {said}."
    if plan["sites"] and (plan["sites"]["p90"] or 0) > 1:
        count, ends = spread(plan["sites"], format_int)
        yield f"Feeding it takes {_ranged(count, ends)} sites."
    if plan["ready_year"] is not None:
        year, ends = spread(plan["ready_year"], quarter)
        moved = plan["ready_year"]["moved_by"]
        by = f", moved most by {in_words(moved['name'])}" if moved else ""
        yield f"Its GPUs are delivered by {_ranged(year, ends)}{by}."


def _ranged(value: str, ends: str) -> str:
    return f"{value} ({ends})" if ends else value


def _breaks(plan: Record) -> str:
    mean, good = format_duration(plan["mtbf_s"]), format_percent(plan["goodput"])
    alone = plan["goodput_by_policy"].get("restart from disk")
    worse = ""
    if alone is not None and alone < 0.5 * plan["goodput"]:
        share = format_percent(alone) if alone >= LEAST else f"below {format_percent(LEAST)}"
        worse = f"; all in step with restarts from disk it would be {share}"
    often = ", ".join(f"{name} {100 * share:.0f} %" for name, share in causes()[:FEW])
    return (
        f"What breaks first: {often}; something fails every {mean}; {recovery(plan)}, so that "
        f"{good} of the time makes progress{worse}."
    )


def _binds(plan: Record) -> str:
    names = [limit["name"] for limit in plan["limits"] if limit["binds"]]
    if not names:
        return "No limit binds: more GPUs would make it faster."
    return f"What limits it: {', '.join(names)}."
