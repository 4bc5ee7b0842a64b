"""What supply comes to, as text for a terminal and as the record of `crore supply --json`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap
from typing import Any, Final

import numpy as np

from crore.cost.reach import Reach, reach_of
from crore.cost.scenario import Course, ramp_of
from crore.cost.start import batch_shares, slowest_share
from crore.simulate.supply.fleet import History, grow
from crore.simulate.supply.start import Phase, Starts
from crore.units import format_count, format_duration, format_int, format_percent, three_digits

SUPPLY_VERSION: Final = 1
YEARS_SHOWN: Final = 10
MOVERS: Final = 4
"""Assumptions shown; the record has all."""
COLUMNS: Final = 120
INDENT: Final = " " * 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Supply:
    """The answer of `crore supply`."""

    course: Course
    target: str
    """What the fleet is for; empty when only a scenario was asked about."""
    units: Reach | None
    """When it counts so many units; None where nobody asked for units."""
    h100: Reach | None
    """The same in H100-equivalents."""
    history: History
    phases: tuple[Phase, ...]
    layouts: tuple[str, ...]
    """The plan of each phase in a line."""
    starts: tuple[Starts, ...]
    draws: int
    seed: int

    @property
    def never(self) -> str:
        """Why the likely course never gets there; empty where it does."""
        return next((it.never for it in (self.units, self.h100) if it and it.never), "")


def supply_of(
    course: Course,
    *,
    target: str = "",
    units: float = 0.0,
    h100: float = 0.0,
    phases: Sequence[tuple[Phase, str]] = (),
    starts: tuple[Starts, ...] = (),
    draws: int = 1000,
    seed: int = 0,
) -> Supply:
    """Return when a fleet of `units`, or of `h100` equivalents, is there and how it grows.

    0 leaves a target out. InputError for one below.
    """
    reaches = [
        reach_of(course, count, in_h100=h, draws=draws, seed=seed) if count else None
        for count, h in ((units, False), (h100, True))
    ]
    return Supply(
        course=course, target=target, units=reaches[0], h100=reaches[1],
        history=grow(ramp_of(course), YEARS_SHOWN), phases=tuple(phase for phase, _ in phases),
        layouts=tuple(words for _, words in phases), starts=starts, draws=draws, seed=seed,
    )  # fmt: skip


def supply_record(it: Supply) -> dict[str, Any]:
    """Return the body of the document; what never happens is null."""
    scenario = it.course.scenario
    return {
        "verdict": _verdict(it), "target": it.target, "scenario": scenario.name,
        "title": scenario.title, "source": scenario.provenance.source, "begin": scenario.begin,
        "own": dict(it.course.own), "ranges": _ranges(it),
        "units": _reach_record(it.units), "h100_equivalents": _reach_record(it.h100),
        "fleet": list(_years(it)),
        "phases": [
            {"gpus": phase.gpus, "days": phase.run_s / 86_400, "plan": words}
            for phase, words in zip(it.phases, it.layouts, strict=True)
        ],
        "starts": [
            {"way": one.way, **{key: _spread(getattr(one, key), add) for key, add in
             (("start", scenario.begin), ("finish", scenario.begin), ("gpus", 0.0))}}
            for one in it.starts
        ],
        "draws": it.draws, "seed": it.seed,
    }  # fmt: skip


def _ranges(it: Supply) -> dict[str, Any]:
    """Return every figure of the scenario with range, unit and source; the user's own as given."""
    figures = it.course.scenario.figures
    return {
        name: {
            "low": it.course.own.get(name, fig.low), "value": it.course.own.get(name, fig.value),
            "high": it.course.own.get(name, fig.high), "unit": fig.unit,
            "source": "given" if name in it.course.own else fig.provenance.source,
        }
        for name, fig in figures.items()
    }  # fmt: skip


def _spread(spread: Sequence[float], add: float = 0.0) -> dict[str, float | None]:
    return {
        key: _finite(value + add) for key, value in zip(("p10", "p50", "p90"), spread, strict=True)
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _reach_record(it: Reach | None) -> dict[str, Any] | None:
    if it is None:
        return None
    return {
        "target": it.target, "ready_year": _spread(it.years, it.begin),
        "years": _spread(it.years), "likely_years": _finite(it.likely), "reached": it.reached,
        "never": it.never, "most": it.most,
        "ramps": [{"growth_more": more, "years": _finite(years)} for more, years in it.ramps],
        "movers": [
            {**asdict(one), "low": _finite(one.low), "high": _finite(one.high)}
            for one in it.movers
        ],
    }  # fmt: skip


def _years(it: Supply) -> Iterator[dict[str, Any]]:
    """Yield the likely fleet at the end of each year."""
    history = it.history
    for year in range(1, YEARS_SHOWN + 1):
        k = int(np.searchsorted(history.years, year - 1e-9))
        units, speeds = history.by_generation[:, k], history.speeds
        yield {
            "year": it.course.scenario.begin + year, "units": float(history.units[k]),
            "h100_equivalents": float(history.speed[k]),
            "delivered": float(history.delivered[k]), "broken": float(history.broken[k]),
            "retired": float(history.retired[k]), "by_generation": units.tolist(),
            "batch_shares": batch_shares(units, speeds).tolist() if units.sum() > 0 else [],
            "equal_batches": slowest_share(units, speeds) if units.sum() > 0 else 1.0,
        }  # fmt: skip


def render_supply(it: Supply) -> str:
    """Return what a terminal shows: when, why, what moves it, the fleet by year, when to start."""
    lines = [_verdict(it), *_reach_lines(it), "", *_fleet_lines(it), *_start_lines(it)]
    source = it.course.scenario.provenance.source
    lines += ["", f"scenario    {it.course.scenario.name}: {it.course.scenario.title}",
              f"source      {source}"]  # fmt: skip
    return "\n".join(
        part for line in lines for part in wrap(line, COLUMNS, subsequent_indent=INDENT) or [""]
    )


def _verdict(it: Supply) -> str:
    reach = it.units or it.h100
    if reach is None:
        return f"{it.course.scenario.title}, for ten years"
    what = f"{format_count(reach.target)} {_what(reach)}"
    if reach.never:
        share = (
            f"; in {format_percent(reach.reached)} of the draws it does" if reach.reached else ""
        )
        return f"NEVER  {what}, because {reach.never}{share}"
    return f"{_year(reach, reach.likely)}  {what}: {_when(reach)}"


def _what(it: Reach) -> str:
    return "H100-equivalents" if it.in_h100 else "GPUs"


def _year(it: Reach, years: float) -> str:
    return f"{it.begin + years:.1f}" if math.isfinite(years) else "never"


def _when(it: Reach) -> str:
    low, mid, high = (_year(it, years) for years in it.years)
    some = "" if it.reached == 1 else f", reached in {format_percent(it.reached)} of the draws"
    return (
        f"{three_digits(it.likely)} years from {it.begin:g}; half of the draws by {mid}, "
        f"80 % within {low} to {high}{some}"
    )


def _reach_lines(it: Supply) -> Iterator[str]:
    if it.units and it.h100:
        reach = it.h100
        said = f"never, because {reach.never}" if reach.never else _when(reach)
        yield f"            {format_count(reach.target)} H100-equivalents: {said}"
    for reach in filter(None, (it.units, it.h100)):
        faster = ", ".join(
            f"+{100 * more:.0f} points a year: {_years_or_never(years)}"
            for more, years in reach.ramps
        )
        yield f"a ramp      {_what(reach)}: {faster}"
        for one in reach.movers[:MOVERS]:
            yield (
                f"  {one.name}: {_years_or_never(one.low)} at its low end, "
                f"{_years_or_never(one.high)} at its high ({one.source})"
            )


def _years_or_never(years: float) -> str:
    return f"{three_digits(years)} years" if math.isfinite(years) else "never"


def _fleet_lines(it: Supply) -> Iterator[str]:
    yield "year       at work   H100-equiv.  delivered     broken    retired  equal batches"
    for row in _years(it):
        counts = (row[k] for k in ("units", "h100_equivalents", "delivered", "broken", "retired"))
        cells = "".join(f"{format_count(count):>11}" for count in counts)
        yield f"{row['year']:<7.1f}{cells}{row['equal_batches']:>15.2f}"
    yield (
        "equal batches: speed of the fleet were every GPU given as much, over batches by each "
        "generation's speed"
    )


def _start_lines(it: Supply) -> Iterator[str]:
    if it.phases:
        yield ""
        yield "the plan of each phase"
    for phase, words in zip(it.phases, it.layouts, strict=True):
        yield f"  {format_int(phase.gpus):>12} GPUs  {format_duration(phase.run_s):>8}  {words}"
    if it.starts:
        yield ""
        yield "way         start p50   finish p10     p50     p90   GPUs at the end"
    for one in it.starts:
        begin = it.course.scenario.begin
        start, *finish = (_calendar(begin, y) for y in (one.start[1], *one.finish))
        ends = "".join(f"{year:>8}" for year in finish)
        yield f"{one.way:<12}{start:>9}     {ends}   {format_count(one.gpus[1]):>8}"


def _calendar(begin: float, years: float) -> str:
    return f"{begin + years:.1f}" if math.isfinite(years) else "never"
