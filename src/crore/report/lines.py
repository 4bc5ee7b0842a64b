"""What a plot draws beside its points: policies, peaks, and stretches that nobody has measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from crore.io import Record
from crore.report.marks import drawn
from crore.report.points import POLICIES
from crore.report.swing import peak_w
from crore.units import format_int

BAND: Final = "shade: a third and three times the failures of Llama 3's cluster"
POWER: Final = ("on average", "peak")
"""Names of the two lines of power."""
EXTRAPOLATED: Final = "extrapolated"
WHY: Final = "beyond the runs that the constants were fitted on"


def lines_of(found: Sequence[Record], points: Sequence[Record]) -> Record:
    """Return the lines of a page from its entries (`sweeping.entries`) and points."""
    stretches = list(_stretches(found))
    peaks = [[entry["gpus"], drawn(peak)] for entry in found if (peak := peak_w(entry["plan"]))]
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
