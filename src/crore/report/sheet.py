"""Everything a page says, as one record: the page draws it and computes nothing.

What a number reads like is decided here and in `points`; the record holds it as text beside the
value that a plot needs. A test finds every numeral of the page in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from crore.catalog import Catalog, load_catalog
from crore.errors import CroreError, InputError
from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.explain.again import case_of
from crore.plan.request import PlanRequest
from crore.plan.saved import request_from
from crore.report import scenario
from crore.report.lines import lines_of
from crore.report.marks import linear_axis, log_axis, spread, table
from crore.report.news import news_of
from crore.report.points import (
    DRIVERS,
    FACTS,
    MEMORY_PARTS,
    POLICIES,
    STEP_PARTS,
    days_text,
    head,
    point,
)
from crore.report.sources import NOT_MODELLED, assumption_table
from crore.report.steps import step_bars
from crore.report.supplied import supply_of
from crore.report.sweeping import entries
from crore.report.swing import peak_w
from crore.report.words import summary
from crore.units import format_bytes, format_count, format_percent, format_usd, format_watts

REPORT_VERSION: Final = 1
"""Of crore.report, the record inside a page."""
PRESETS: Final = (1, 8, 72, 1_000, 16_384, 100_000, 1_000_000, 10_000_000)
HOME: Final = "s=1;model=baichuan-13b;gpu=rtx-3090;gpus=1;tokens=100M"


def sheet_of(swept: Record, kind: str, launch: Sequence[Record] = ()) -> Record:
    """Return the record of a page from a sweep's (`sweeping.sweep_record`).

    `kind` is plan, mission or run; `launch` are files to show, `{name, text}`. Raises InputError
    for a sweep that is damaged.
    """
    request = request_from(swept["request"], "the sweep")
    catalog = load_catalog(request.catalog_file)
    found = list(entries(swept))
    if not found:
        raise InputError("the sweep holds no GPU count yet: let it run to its end")
    first = next((entry for entry in found if entry["plan"] is not None), None)
    news = news_of(found, catalog)
    points = _points(found, news, catalog, request.wan)
    counts = [entry["gpus"] for entry in found]
    lines = lines_of(found, points)
    own = counts.index(request.gpus) if request.gpus in counts else len(counts) - 1
    plan = whole_plan(swept, found[own])
    return {
        "kind": kind, "title": request.title or f"{request.model} on {request.gpu}",
        "note": request.note, "source": request.source,
        "summary": summary(found[own]["plan"], found[own]["reason"], points[own]),
        "scenario": scenario.scenario_of(request), "own": own,
        "positions": [counts.index(n) for n in swept["counts"] if n in counts],
        "points": points, "axes": _axes(points, lines), "parts": _parts(),
        "facts": dict(FACTS), "range_note": RANGES,
        "drivers": list(DRIVERS),
        "lines": lines,
        "supply": None if first is None else supply_of(first["plan"]["supply"], request.gpu),
        "timeline": None if plan is None else _timeline(plan),
        "tables": {"goodput": _goodputs(found, lines["beyond_text"]),
                   "pareto": _pareto(found, lines["beyond_text"])}, "run": None,
        "assumptions": None if plan is None else assumption_table(plan),
        "not_modelled": list(NOT_MODELLED), "words": [list(pair) for pair in WORDS],
        "launch": list(launch),
        "presets": _presets(request), "compare_note": COMPARE, "live": None,
    }  # fmt: skip


def _points(
    found: Sequence[Record], news: Sequence[list[str]], catalog: Catalog, wan: str
) -> list[Record]:
    """Return the points; one with the plan of an earlier one says `like`, and not all again."""
    first = next((entry for entry in found if entry["plan"] is not None), None)
    points: list[Record] = []
    homes: dict[int, int] = {}
    for k, (entry, told) in enumerate(zip(found, news, strict=True)):
        home = None if entry["plan"] is None else homes.setdefault(id(entry["plan"]), k)
        own = (
            point(entry, catalog, first, wan)
            if home in (None, k)
            else {**head(entry), "like": home}
        )
        points.append({**own, "news": told})
    return points


WORDS: Final = (
    ("world", "GPUs that run as one program: one fails, all of it stops"),
    ("island", "worlds that take every step together, and go on without one that is gone"),
    ("fleet", "islands that meet every so many steps, each usually a site"),
    ("tp, cp, ep, pp, dp", "GPUs that share a layer, a sequence, experts, the depth, the batch"),
    ("goodput", "share of the time that makes progress"),
    ("MFU", "share of a GPU's peak that goes into the model's own arithmetic"),
    ("bubble", "stages of a pipeline waiting for each other"),
    ("extrapolated", "beyond the runs that the constants were fitted on"),
    ("estimate", "from sourced ranges, drawn many times"),
    ("fitted", "within the runs that the constants were fitted on"),
)  # fmt: skip
"""Words a page uses -> what they mean."""
RANGES: Final = (
    "ranges hold four cases in five (80 %); values are the middle of many draws, and do not "
    "multiply exactly"
)
COMPARE: Final = (
    "Pinned plans stand side by side; where a cause differs, both are shown. "
    "crore compare says by how much each moves the time."
)


def whole_plan(swept: Record, entry: Record) -> Plan | None:
    """Return the plan of one entry, priced anew from its layout; None where there is none."""
    body = entry["plan"]
    if body is None:
        return None
    asked = {**swept["request"], "gpus": body["gpus_available"]}
    return case_of({**body, "request": asked, "alternatives": []}, "the sweep").plan


def _timeline(plan: Plan) -> Record | None:
    """Return the step's bars; None where its schedule cannot be played."""
    try:
        return step_bars(plan)
    except CroreError:
        return None


def axes_of(points: Sequence[Record]) -> Record:
    """Return every axis over the whole sweep: nothing is rescaled while one drags."""
    whole = [it for it in points if "like" not in it]
    memory = [it["memory"]["capacity"] for it in whole if it["memory"]]
    years = [year for it in whole for year in it["ready"] or [] if year is not None]
    used = [it["gpus"] for it in points]
    return {
        "gpus": log_axis("GPUs", 1.0, max(*used, 10.0), format_count),
        "memory": linear_axis("memory of a GPU", 0.0, max(memory, default=1.0), format_bytes),
        "share": linear_axis("share", 0.0, 1.0, format_percent),
        "goodput": linear_axis("time that makes progress", 0.0, 1.0, format_percent),
        "days": _spanned("days to train", whole, "days", format_count),
        "usd": _spanned("cost of the run", whole, "usd", format_usd),
        "power": _spanned(POWER_AXIS, whole, "power_w", format_watts),
        "year": linear_axis("year", 2026.0, max([*years, 2041.0]), lambda year: f"{year:.0f}"),
        "delivered": log_axis("GPUs of one buyer", 1.0, 1e9, format_count),
    }  # fmt: skip


def _axes(points: Sequence[Record], lines: Record) -> Record:
    """Return the axes of a page, that of power with room for the peaks."""
    peaks = [{"power_w": [watts]} for _, watts in lines["peaks"]]
    whole = [it for it in points if "like" not in it]
    power = _spanned(POWER_AXIS, [*whole, *peaks], "power_w", format_watts)
    return {**axes_of(points), "power": power}


POWER_AXIS: Final = "power at the meter"


def _spanned(
    label: str, points: Sequence[Record], key: str, show: Callable[[float], str]
) -> Record:
    values = [value for it in points for value in it[key] or [] if value]
    return log_axis(label, min(values, default=1.0), max(values, default=10.0), show)


def _parts() -> Record:
    return {
        name: [[key, key, about] for key, about in parts]
        for name, parts in (("memory", MEMORY_PARTS), ("step", STEP_PARTS))
    }


def _goodputs(found: Sequence[Record], beyond: str) -> Record:
    rows = []
    for entry in found:
        plan = entry["plan"]
        if plan is None:
            rows.append([f"{entry['gpus']:,}", *["no plan"] * len(POLICIES)])
            continue
        others = [format_percent(plan["goodput_by_policy"][name]) for name, _ in POLICIES[1:]]
        rows.append([f"{entry['gpus']:,}", format_percent(plan["goodput"]), *others])
    head = ["GPUs", *(label for _, label in POLICIES)]
    return table(_captioned("share of the time that makes progress", beyond), head, rows)


def _pareto(found: Sequence[Record], beyond: str) -> Record:
    rows = []
    for entry in found:
        plan = entry["plan"]
        if plan is not None:
            rows.append([
                f"{entry['gpus']:,}", days_text(plan["days"])[0],
                spread(plan["cost_usd"], format_usd)[0], spread(plan["power_w"], format_watts)[0],
                format_watts(peak) if (peak := peak_w(plan)) else "as on average",
                format_percent(plan["mfu"]),
            ])  # fmt: skip
    head = ["GPUs", "time", "cost", "power", "at its peak", "MFU"]
    return table(_captioned("time, dollars and power", beyond), head, rows)


def _captioned(text: str, beyond: str) -> str:
    return f"{text}; {beyond.removeprefix('hatched: ')}" if beyond else text


def _presets(request: PlanRequest) -> list[list[str]]:
    own: Mapping[str, Any] = scenario.scenario_of(request)
    at = [[format_count(gpus), scenario.written({**own, "gpus": str(gpus)})] for gpus in PRESETS]
    return [["my 3090", HOME], *at]
