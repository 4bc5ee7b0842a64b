"""Parts of a whole as a waterfall: each begins where the one before it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from crore.plan.text.screen import Screen

SMALLEST: Final = 0.0005
"""Parts below this share of the whole are not worth a line."""
NAME, VALUE, LONGEST = 24, 9, 48
"""Columns of a name and of a value; of a bar at most."""
BEFORE: Final = 2 + NAME + VALUE + 10
"""Columns before a bar: the indent, the name, the value, the share."""


class Part(NamedTuple):
    """One part of a whole; `start` and `end` are shares of it."""

    name: str
    value: float
    start: float
    end: float


def waterfall(parts: Mapping[str, float], total: float) -> list[Part]:
    """Return the parts of `total` worth a line, in order, each with where it begins and ends."""
    found, reached = [], 0.0
    for name, value in parts.items():
        if value >= SMALLEST * total:
            found.append(Part(name, value, reached / total, (reached + value) / total))
        reached += value
    return found


def rows(
    parts: Mapping[str, float], total: float, show: Callable[[float], str], screen: Screen
) -> Iterator[str]:
    """Yield a line for each part: its name, its value as `show` has it, its share, its bar."""
    for part in waterfall(parts, total):
        cells = cells_of(screen)
        start, end = round(part.start * cells), round(part.end * cells)
        bar = " " * start + "█" * (end - start) if end > start else _thin(start, cells)
        yield _row(part.name, show(part.value), part.end - part.start, bar, screen)


def rest(name: str, value: str, used: float, screen: Screen) -> str:
    """Return the line of what is left of a whole of which the share `used` is taken."""
    cells = cells_of(screen)
    start = min(cells, round(used * cells))
    return _row(name, value, 1 - used, " " * start + "░" * (cells - start) + "▏", screen)


def level(whole: str, used: float, screen: Screen) -> str:
    """Return a whole as one bar: so much of it taken, the rest free, its end marked."""
    cells = cells_of(screen)
    taken = min(cells, max(1, round(used * cells)))
    bar = "█" * taken + "░" * (cells - taken) + "▏"
    return screen.drawn(f"  {whole:<{BEFORE - 2}}{bar}")


def cells_of(screen: Screen) -> int:
    """Return how many characters a whole bar has."""
    return min(LONGEST, screen.columns - BEFORE - 1)


def _thin(start: int, cells: int) -> str:
    """Return the bar of a part that fills no character."""
    return " " * min(start, cells - 1) + "▏"


def _row(name: str, value: str, share: float, bar: str, screen: Screen) -> str:
    line = f"  {name:<{NAME}}{value:>{VALUE}} {100 * share:5.1f} %  {screen.drawn(bar)}"
    return line.rstrip()
