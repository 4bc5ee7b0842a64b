"""A training run as the page shows it: what it learned, how fast, what it survived."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final

from crore.io import Record
from crore.report.marks import UNKNOWN, linear_axis, table
from crore.units import format_bytes, format_count, format_duration, format_si, three_digits

MOST_POINTS: Final = 240
"""Of one line: a curve of 760 pixels shows no more."""
WARM_UP: Final = 3
"""Steps that are left out of the median: the first ones build what later ones use again."""
MOST_EVENTS: Final = 30
FAILURES: Final = ("lost rank", "lost world", "hang", "fenced", "damaged checkpoint", "disk full")
"""Kinds of events that would have ended a run that survives nothing."""


def run_section(lines: Sequence[Record]) -> Record:
    """Return the part of a page that a run's records become: `facts, plots, checks`.

    `lines` are the records of run.jsonl that still hold, oldest first, each with its `kind`.
    """
    steps = [it for it in lines if it["kind"] == "step"]
    evals = [it for it in lines if it["kind"] == "eval"]
    events = [it for it in lines if it["kind"] == "event"]
    start = next((it for it in reversed(lines) if it["kind"] == "start"), {})
    end = next((it for it in reversed(lines) if it["kind"] == "end"), None)
    return {
        "facts": [
            [label, value, "", "measured", note]
            for label, value, note in _facts(start, steps, evals, events, end)
        ],
        "plots": _plots(start, steps, evals, events),
        "checks": _checks(start, steps, end),
        "events": table("out of the ordinary", ["step", "what"],
                        [[f"{it['step']:,}", it["message"]] for it in events[-MOST_EVENTS:]]),
    }  # fmt: skip


def _facts(
    start: Record, steps: Sequence[Record], evals: Sequence[Record], events: Sequence[Record],
    end: Record | None,
) -> list[tuple[str, str, str]]:  # fmt: skip
    """Return (label, value, note) of what a run came to."""
    tokens = sum(it["tokens"] for it in steps)
    rows = [
        ("model", str(start.get("model", UNKNOWN)),
         f"{format_count(start['parameters'])} parameters" if start else ""),
        ("steps", f"{len(steps):,}", f"of {start['steps']:,}" if start else ""),
        ("tokens", format_count(tokens), f"on {start.get('world_size', 0)} processes"),
        ("ended", "not yet" if end is None else str(end["reason"]),
         "" if end is None else str(end["message"])),
    ]  # fmt: skip
    if evals:
        first, last = evals[0], evals[-1]
        rows.append(("held-out loss", f"{last['loss']:.3f}", f"from {first['loss']:.3f} nats"))
        rows.append(("bits per byte", f"{last['bits_per_byte']:.3f}",
                     f"from {first['bits_per_byte']:.3f}"))  # fmt: skip
    count = Counter(it["what"] for it in events)
    named = ", ".join(f"{count[what]} {what}" for what in FAILURES if count[what])
    rows.append(("failures survived", f"{sum(count[what] for what in FAILURES):,}", named))
    rows.append(("times resumed", f"{count['resume']:,}", "from a checkpoint"))
    return rows


def _plots(
    start: Record, steps: Sequence[Record], evals: Sequence[Record], events: Sequence[Record]
) -> list[Record]:
    if not steps:
        return []
    last = max(it["step"] for it in steps)
    x = linear_axis("step", 0.0, float(max(last, 1)), lambda v: format_count(v) if v else "0")
    marks = [[it["step"], it["message"][:80]] for it in events[-MOST_EVENTS:]]
    predicted = (start.get("prediction") or {}).get("tokens_per_s")
    plan = [] if predicted is None else [("planned", [[0, predicted], [last, predicted]])]
    found = [
        _plot("loss", "Loss, nats per token", x, marks,
              [("training", _pairs(steps, "loss")), ("held out", _pairs(evals, "loss"))],
              lambda v: f"{v:.3g}"),
        _plot("bits", "Bits per byte", x, marks,
              [("training", _pairs(steps, "bits_per_byte")),
               ("held out", _pairs(evals, "bits_per_byte"))], lambda v: f"{v:.3g}"),
        _plot("speed", "Tokens a second", x, marks,
              [("measured", _pairs(steps, "tokens_per_s")), *plan],
              lambda v: format_count(v) if v else "0"),
    ]  # fmt: skip
    return [plot for plot in found if plot is not None]


def _pairs(lines: Sequence[Record], key: str) -> list[list[float]]:
    """Return (step, value) of what is known, thinned to what a curve can show."""
    known = [[it["step"], float(f"{it[key]:.5g}")] for it in lines if _finite(it[key])]
    every = max(1, -(-len(known) // MOST_POINTS))
    kept = known[::every]
    return kept if not known or kept[-1] == known[-1] else [*kept, known[-1]]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _plot(
    key: str, title: str, x: Record, marks: Sequence[Sequence[Any]],
    series: Sequence[tuple[str, list[list[float]]]], show: Callable[[float], str],
) -> Record | None:  # fmt: skip
    drawn = [(label, points) for label, points in series if points]
    values = [value for _, points in drawn for _, value in points]
    if not values:
        return None
    low = min(0.0, *values) if key == "speed" else min(values)
    rows = []
    for label, points in drawn:
        for step, value in (points[0], points[len(points) // 2], points[-1]):
            rows.append([label, f"{step:,.0f}", show(value)])
    return {
        "key": key, "title": title, "x": x,
        "y": linear_axis(title, low, max(*values, low + 1e-9), show),
        "series": [{"label": label, "points": points} for label, points in drawn],
        "marks": list(marks),
        "table": table(f"{title}: first, middle and last of each line",
                       ["line", "step", "value"], rows),
    }  # fmt: skip


def _checks(start: Record, steps: Sequence[Record], end: Record | None) -> Record:
    """Return what the plan said beside what was measured."""
    said: Mapping[str, Any] = start.get("prediction") or {}
    rows = []
    timed = [it["step_time_s"] for it in steps[WARM_UP:]] or [it["step_time_s"] for it in steps]
    if said and timed:
        middle = median(timed)
        low, high = said["step_time_low_s"], said["step_time_high_s"]
        inside = "within" if low <= middle <= high else "outside"
        rows.append(
            [
                "a step (median)",
                format_duration(said["step_time_s"]),
                format_duration(middle),
                _off(middle / said["step_time_s"]),
                f"{inside} the 80 % range, {format_si(low, 's')} to {format_si(high, 's')}",
            ]
        )
        speed = median([it["tokens_per_s"] for it in steps[WARM_UP:] or steps])
        rows.append(["tokens a second", three_digits(said["tokens_per_s"]), three_digits(speed),
                     _off(speed / said["tokens_per_s"]), str(said["evidence"])])  # fmt: skip
        used = end["memory_bytes"] if end else max(it["memory_bytes"] for it in steps)
        rows.append(["memory", format_bytes(said["memory_bytes"]), format_bytes(used),
                     _off(used / said["memory_bytes"]), str(start["memory_kind"])])  # fmt: skip
    return table("predicted against measured",
                 ["what", "planned", "measured", "off", "note"], rows)  # fmt: skip


def _off(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
