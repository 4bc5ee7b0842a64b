"""Small records that pages are made of: facts, tables, axes. Numbers arrive here as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from crore.io import Record
from crore.plan.text.scale import STEPS, round_step

UNKNOWN: Final = "unknown"
NEVER: Final = "never"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Record:
    """Return a table of texts."""
    return {"caption": caption, "head": list(head), "rows": [list(row) for row in rows]}


def spread(one: Mapping[str, Any] | None, show: Callable[[float], str]) -> tuple[str, str]:
    """Return a figure of the plan file as (median, `low to high`); unknown, and never, as such."""
    if one is None:
        return UNKNOWN, ""
    low, middle, high = (
        NEVER if one[key] is None else show(one[key]) for key in ("p10", "p50", "p90")
    )
    return middle, "" if low == high else f"{low} to {high}"


def triple(one: Mapping[str, Any] | None) -> list[float | None] | None:
    """Return (p10, p50, p90) of a figure for a plot; None where it is unknown."""
    if one is None:
        return None
    values = (one[key] for key in ("p10", "p50", "p90"))
    return [None if value is None else drawn(value) for value in values]


def drawn(value: float) -> float:
    """Return a number with the digits that a plot can show."""
    return float(f"{value:.6g}")


def log_axis(label: str, low: float, high: float, show: Callable[[float], str]) -> Record:
    """Return a logarithmic axis: of decades, or of 1, 2, 5 where it spans two or less.

    Its ends are ticks, and nothing lies outside of them; there are nine ticks at most.
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    if last - first <= NARROW:
        all_of = [m * 10.0**k for k in range(first, last + 1) for m in STEPS]
        below = max(v for v in all_of if v <= low * (1 + 1e-9))
        above = min(v for v in all_of if v >= high * (1 - 1e-9) and v > below)
        at = [v for v in all_of if below <= v <= above]
    else:
        at = [10.0**k for k in range(first, last + 1, -(-(last - first) // 8))]
        above = 10.0**last
    ends = [at[0], max(above, at[-1])]
    return {"label": label, "scale": "log", "domain": ends, "ticks": [[v, show(v)] for v in at]}


NARROW: Final = 2
"""Decades up to which an axis has ticks at 1, 2 and 5."""


def linear_axis(
    label: str, low: float, high: float, show: Callable[[float], str], *, tight: bool = False
) -> Record:
    """Return a linear axis with four to eight round ticks; `tight` ends it at `high`."""
    step = round_step((high - low) / 5) if high > low else 1.0
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    at = [k * step for k in range(first, last + 1)]
    end = high if tight else at[-1]
    ticks = [[v, show(v)] for v in at if v <= end]
    return {"label": label, "scale": "linear", "domain": [at[0], end], "ticks": ticks}
