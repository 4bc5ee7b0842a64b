"""A comparison as a picture (SVG): the days of each answer, the causes of each difference."""

from __future__ import annotations

from typing import Final

from crore.plan.comparison import LETTERS, Comparison, Difference, Factor
from crore.plan.text.comparison import largest, percent, verdicts
from crore.plan.text.pictures import BAR, EDGE, FROM, ROW, TO, WIDTH, called, heading
from crore.plan.text.scale import Scale
from crore.plan.text.svg import BLUE, INK, LINE, MUTED, ORANGE, PALE, Svg, clipped
from crore.units import three_digits

LEFT: Final = FROM + 60
"""Where bars begin: names of causes are long."""


def comparison_svg(made: Comparison) -> str:
    """Return days with their 80 % intervals, then for each answer after the first the causes."""
    causes = [largest(it.days) for it in made.differences]
    heights = [ROW * max(1, len(found)) + 54 for found in causes]
    height = 112 + ROW * len(made.plans) + 30 + sum(heights)
    said = verdicts(made)
    svg = Svg(WIDTH, height, "Plans side by side", "; ".join(said))
    below = "Lines over bars: 80 % of cases. Causes multiply: orange takes longer, blue less"
    heading(svg, said[0].partition(": ")[0], below)
    _days(svg, made)
    y = 112.0 + ROW * len(made.plans) + 30
    for it, found, taken in zip(made.differences, causes, heights, strict=True):
        _causes(svg, y, it, found)
        y += taken
    return str(svg)


def _days(svg: Svg, made: Comparison) -> None:
    most = max(plan.days.high for plan in made.plans)
    days = Scale(low=0, high=most, start=LEFT, end=TO, log=False)
    one_model = len({plan.question.model.name for plan in made.plans}) == 1
    whose = f" to train {made.plans[0].question.model.name}" if one_model else ""
    svg.text((EDGE, 88), clipped(f"Days{whose}", WIDTH - 2 * EDGE, 13), size=13, bold=True)
    for k, (letter, plan) in enumerate(zip(LETTERS, made.plans, strict=False)):
        y, it = 104 + k * ROW, plan.days
        what = called(plan).partition(" on ")[2] if one_model else called(plan)
        svg.text((EDGE, y + BAR - 2), letter, bold=True)
        svg.text((LEFT - 12, y + BAR - 2), clipped(what, LEFT - EDGE - 28), anchor="end")
        svg.box((LEFT, y), days(it.value) - LEFT, BAR, BLUE)
        middle = y + BAR / 2
        svg.line([(days(it.low), middle), (days(it.high), middle)], INK, width=1.5)
        words = f"{three_digits(it.value)} ({three_digits(it.low)} to {three_digits(it.high)})"
        svg.text((WIDTH - EDGE, y + BAR - 2), words, anchor="end")


def _causes(svg: Svg, y: float, it: Difference, found: list[Factor]) -> None:
    """Draw causes as bars: to the right where they make the run longer, else to the left."""
    title = f"{it.letter} against A: days x{three_digits(it.days.ratio)}, by cause"
    svg.text((EDGE, y + 8), title, size=13, bold=True)
    if not found:
        svg.text((EDGE, y + 24 + BAR), "no cause changes the days by 1 %", colour=MUTED)
        return
    widest = max(max(f.factor, 1 / f.factor) for f in found)
    factor = Scale(low=1 / widest, high=widest, start=LEFT, end=TO, log=True)
    for k, cause in enumerate(found):
        top = y + 22 + k * ROW
        start, end = sorted((factor(1), factor(cause.factor)))
        svg.line([(LEFT, top + ROW - 4), (TO, top + ROW - 4)], PALE)
        svg.text((LEFT - 12, top + BAR - 2), clipped(cause.name, LEFT - EDGE - 12), anchor="end")
        svg.box((start, top), max(end - start, 1.5), BAR, ORANGE if cause.factor > 1 else BLUE)
        svg.text((WIDTH - EDGE, top + BAR - 2), percent(cause), anchor="end")
    ends = (y + 20, y + 22 + len(found) * ROW)
    svg.line([(factor(1), ends[0]), (factor(1), ends[1])], LINE)
