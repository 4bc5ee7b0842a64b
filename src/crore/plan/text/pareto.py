"""A frontier as characters: days across, dollars upwards, a letter for each plan."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from crore.plan.answer import Plan
from crore.plan.text.scale import Scale
from crore.plan.text.screen import Screen
from crore.units import format_count, format_usd, three_digits

WIDTH, HEIGHT, LEFT = 80, 12, 12
"""Columns in all, lines of the field, columns before it."""


def letter_of(place: int) -> str:
    """Return what a plan is called in the plot and in the table: A to Z, then AA."""
    above, last = divmod(place, 26)
    return (ascii_uppercase[above - 1] if above else "") + ascii_uppercase[last]


def burden_of(plans: Sequence[Plan]) -> tuple[str, list[float]]:
    """Return what the upward axis shows, and its value for each plan.

    Dollars; GPU-hours where the price of one is unknown.
    """
    usd = [plan.economy.usd[1] for plan in plans if plan.economy.usd]
    if len(usd) == len(plans):
        return "dollars", usd
    return "GPU-hours", [plan.gpus * plan.run_s / 3600 for plan in plans]


def as_burden(name: str, value: float) -> str:
    """Return a value of the upward axis as text."""
    return format_usd(value) if name == "dollars" else format_count(value)


def plot(plans: Sequence[Plan], screen: Screen) -> list[str]:
    """Return the frontier in 80 columns at most; where letters would cover each other, the first.

    An axis is logarithmic where its values span a factor of three.
    """
    name, heights = burden_of(plans)
    days = [plan.days.value for plan in plans]
    width = min(WIDTH, screen.columns) - LEFT - 1
    across = Scale.over(days, 0, width - 1)
    upwards = Scale.over(heights, HEIGHT - 1, 0)
    field = [[" "] * width for _ in range(HEIGHT)]
    for place, (x, y) in enumerate(zip(days, heights, strict=True)):
        _write(field[round(upwards(y))], round(across(x)), letter_of(place))
    marks = {round(upwards(value)): as_burden(name, value) for value in upwards.ticks(4)}
    lines = [
        f"{marks.get(k, ''):>{LEFT - 2}} {'┤' if k in marks else '│'}{''.join(line)}".rstrip()
        for k, line in enumerate(field)
    ]
    title = f"{name} over days (lower left is better; letters below)"
    return [screen.drawn(line) for line in (title, *lines, *_floor(across, width))]


def _write(line: list[str], at: int, words: str) -> None:
    """Write a word into a line where nothing stands."""
    if all(cell == " " for cell in line[at : at + len(words)]) and at + len(words) <= len(line):
        line[at : at + len(words)] = words


def _floor(across: Scale, width: int) -> list[str]:
    """Return the lower axis and the days below it."""
    line, below = ["─"] * width, [" "] * width
    for value in across.ticks():
        at, words = round(across(value)), _days(value)
        line[at] = "┴"
        _write(below, max(0, min(at - len(words) // 2, width - len(words))), words)
    indent = " " * (LEFT - 1)
    return [f"{indent}└{''.join(line)}", f"{indent} {''.join(below)}".rstrip()]


def _days(value: float) -> str:
    words = f"{value:g}" if value < 1e4 else format_count(value)
    return f"{words if 'e' not in words else three_digits(value)} d"
