"""What a plot draws beside its points: policies, peaks, and stretches that nobody has measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from crore.cost.power import MESSAGE_SHARE
from crore.io import Record
from crore.plan.text.takes import SWING_W
from crore.report.marks import drawn
from crore.report.points import POLICIES
from crore.units import format_duration, format_int, format_watts

BAND: Final = "shade: a third and three times the failures of Llama 3's cluster"
POWER: Final = ("on average", "peak")
"""Names of the two lines of power."""
OUTSIDE: Final = ("servers", "network", "desktop")
"""Parts of the power that stand around the boards."""
EXTRAPOLATED: Final = "extrapolated"
WHY: Final = "beyond the runs that the constants were fitted on"


def lines_of(found: Sequence[Record], points: Sequence[Record]) -> Record:
    """Return the lines of a page from its entries (`sweeping.entries`) and points."""
    stretches = list(_stretches(found))
    peaks = [
        [entry["gpus"], drawn(peak), f"{format_watts(peak)} at its peak"]
        for entry in found
        if (peak := peak_w(entry["plan"]))
    ]
    return {
        "goodput": [list(line) for line in POLICIES], "band": BAND, "power": list(POWER),
        "peaks": peaks, "beyond": [[found[i]["gpus"], found[j]["gpus"]] for i, j in stretches],
        "beyond_text": _beyond(stretches, found, points), "beyond_word": EXTRAPOLATED,
    }  # fmt: skip


def _stretches(found: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """Yield the first and last entry of each stretch whose plans no published run stands behind."""
    numbered = [(i, _is_beyond(entry)) for i, entry in enumerate(found) if entry["plan"]]
    for beyond, group in groupby(numbered, key=lambda it: it[1]):
        places = [i for i, _ in group]
        if beyond:
            yield places[0], places[-1]


def _is_beyond(entry: Record) -> bool:
    return bool(entry["plan"]["days"]["evidence"] == EXTRAPOLATED)


def _beyond(
    stretches: Sequence[tuple[int, int]], found: Sequence[Record], points: Sequence[Record]
) -> str:
    """Say where the curves are extrapolated; empty where they are nowhere."""
    if not stretches:
        return ""
    planned = [i for i, entry in enumerate(found) if entry["plan"]]
    if list(stretches) == [(planned[0], planned[-1])]:
        return f"hatched: all of it {EXTRAPOLATED}, {WHY}"
    texts = (
        points[i]["aria"] if i == j else f"{format_int(found[i]['gpus'])} to {points[j]['aria']}"
        for i, j in stretches
    )
    return f"hatched: {EXTRAPOLATED}, {WHY} ({', '.join(texts)})"


def peak_w(plan: Record | None) -> float | None:
    """Return watts at the meter while all GPUs compute; None for a load that does not swing.

    Boards at their limit, as `crore.cost.load` has them, beside servers, network and cooling, over
    what all draw on average, at likely values; times the median average, which it stands beside.
    """
    if plan is None or not plan["load"] or not plan["load"]["swing_w"]:
        return None
    split = plan["power_split_w"]
    boards = plan["load"]["swing_w"] / (1 - MESSAGE_SHARE)
    around = sum(split.get(name, 0.0) for name in OUTSIDE)
    # Cooling takes the same share of both.
    ratio = (boards + around) / (sum(split.values()) - split.get("cooling", 0.0))
    return float(plan["power_w"]["p50"] * ratio)


def swings(plan: Record) -> str:
    """Return how a load in step swings, as a sentence has it; empty where it hardly does."""
    load, peak = plan["load"], peak_w(plan)
    if peak is None or load["swing_w"] < SWING_W:
        return ""
    left = load["swing_staggered_w"]
    staggered = f", {format_watts(left)} with islands' steps staggered"
    return (
        f"{format_watts(peak)} at its peak, while all compute, as it swings by "
        f"{format_watts(load['swing_w'])} every {format_duration(load['period_s'])}"
        f"{staggered if plan['islands'] > 1 else ''}"
    )
