"""One step of a plan as bars, for one pipeline rank of each role; and where to see all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crore.io import Record
from crore.plan.answer import Plan
from crore.plan.candidates import compact
from crore.plan.pricing import job_for
from crore.report.marks import linear_axis, table
from crore.simulate.schedules import Timeline, job_timeline
from crore.simulate.schedules.draw import Slice
from crore.units import format_duration, format_si

MOST_SLICES: Final = 1500
"""Drawn with every message; the page keeps those of the streams below."""
ROLES: Final = ("first", "second", "middle", "last but one", "last")
STREAMS: Final = ("compute", "dp, once a step")
UNDRAWN: Final = "more of the same, not drawn"
KINDS: Final = ("forward", "backward", "input gradient", "weight gradient", "once a step",
                "waiting", UNDRAWN)  # fmt: skip
WIDE: Final = 0.03
"""Gaps of a step between passes from which on left-out ones are told."""
SHORTEST: Final = 2e-4
"""Bars below this share of the step are too thin to see."""


def step_bars(plan: Plan) -> Record:
    """Return one step of a plan as the page draws it: `tracks, bars, kinds, axis, note, table`.

    A bar is [track, start seconds, end seconds, kind]. Raises InputError where the schedule cannot
    run its micro-batches.
    """
    job = job_for(plan.question, compact(plan.chosen), plan.network.machine)
    timeline = job_timeline(job, MOST_SLICES)
    ranks = _roles(timeline.ranks)
    bars = list(_bars(timeline, ranks))
    if "micro-batches in the middle" in timeline.left_out:
        bars += list(_between(bars, timeline.step_s))
    names = [f"stage {rank}" if len(timeline.work.layers) > 1 else "every GPU" for rank in ranks]
    end_s = max((float(bar[2]) for bar in bars), default=timeline.step_s)
    notes = [
        f"played {format_duration(timeline.step_s)}, planned {format_duration(timeline.planned_s)}",
        f"{timeline.micro_batches:,} micro-batches",
    ]
    if timeline.left_out:
        notes.append(f"not drawn: {timeline.left_out}")
    return {
        "title": f"One step, {plan.layout['schedule'] if plan.layout['pp'] > 1 else 'no pipeline'}",
        "tracks": names, "bars": bars,
        "kinds": [[kind, kind] for kind in KINDS if any(bar[3] == kind for bar in bars)],
        "axis": linear_axis(
            "time in the step", 0.0, end_s, lambda s: format_si(s, "s"), tight=True
        ),
        "note": "; ".join(notes),
        "table": _table(bars, names, timeline.step_s),
    }  # fmt: skip


def _roles(ranks: tuple[int, ...]) -> tuple[int, ...]:
    """Return at most five ranks: both ends, their neighbours, the middle."""
    if len(ranks) <= len(ROLES):
        return ranks
    return (ranks[0], ranks[1], ranks[len(ranks) // 2], ranks[-2], ranks[-1])


def _bars(timeline: Timeline, ranks: tuple[int, ...]) -> Iterator[list[float | int | str]]:
    for it in timeline.slices:
        if it.rank not in ranks or it.stream not in STREAMS:
            continue
        if it.length_s < SHORTEST * timeline.step_s:
            continue
        ends = (float(f"{x:.5g}") for x in (it.start_s, it.start_s + it.length_s))
        yield [ranks.index(it.rank), *ends, _kind(it)]


def _between(
    bars: list[list[float | int | str]], step_s: float
) -> Iterator[list[float | int | str]]:
    """Yield a bar for each gap of a track in which micro-batches were left out."""
    for track in {bar[0] for bar in bars}:
        passes = sorted(
            (float(bar[1]), float(bar[2])) for bar in bars
            if bar[0] == track and bar[3] in KINDS[:4]
        )  # fmt: skip
        end = passes[0][1] if passes else 0.0
        for start, stop in passes:
            if start - end > WIDE * step_s:
                yield [int(track), end, start, UNDRAWN]
            end = max(end, stop)


def _kind(it: Slice) -> str:
    if it.stream != "compute":
        return "once a step"
    if it.name.startswith("waiting"):
        return "waiting"
    return next((kind for kind in KINDS[:4] if f" {kind}, stage" in it.name), "once a step")


def _table(bars: list[list[float | int | str]], names: list[str], step_s: float) -> Record:
    """Return the seconds of each kind by stage, of what is drawn."""
    rows = []
    for track, name in enumerate(names):
        total = dict.fromkeys(KINDS, 0.0)
        for bar in bars:
            if bar[0] == track:
                total[str(bar[3])] += float(bar[2]) - float(bar[1])
        rows.append([name, *(format_si(total[kind], "s") for kind in KINDS)])
    caption = f"what is drawn of a step of {format_duration(step_s)}"
    return table(caption, ["stage", *KINDS], rows)
