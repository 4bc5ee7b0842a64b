"""Predictions against measured runs as a picture (SVG): each run a dot, by family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from crore.catalog import Catalog, PublishedRun
from crore.plan.text.scale import Scale
from crore.plan.text.svg import BLUE, INK, LINE, MUTED, ORANGE, PALE, Svg
from crore.plan.validate import Score, Validation
from crore.units import format_duration, format_int

WIDTH, TOP, EDGE = 940, 118, 24
SIDE: Final = 330
"""Pixels of the left field's sides."""
LEFT: Final = 86
STRIPS, STRIPS_END = 590, 828
"""Where the strips begin and end."""
ROW: Final = 30
FURTHEST: Final = 2.0
"""Ratio at the ends of the strips; what misses by more is drawn there."""


class Dot(NamedTuple):
    """One measured run; seconds of a step."""

    family: str
    measured_s: float
    predicted_s: float
    experts: bool
    """A mixture of experts."""


def validation_svg(made: Validation, runs: Sequence[PublishedRun], catalog: Catalog) -> str:
    """Return predicted over published step times, and the errors by family, as a picture.

    `runs` are those that `made` is about. Left both axes are logarithmic; right the ratio is.
    """
    dots = list(_dots(made, runs, catalog))
    scores = made.scores["family"]
    height = max(TOP + SIDE, TOP + ROW * len(scores)) + 74
    svg = Svg(WIDTH, height, "Predicted and published step times", _told(scores))
    count = f"{format_int(len(dots))} runs" if len(dots) != 1 else "1 run"
    svg.text((EDGE, 34), f"Predicted and published step times of {count}", size=15, bold=True)
    _legend(svg, any(dot.experts for dot in dots))
    svg.text((LEFT, TOP - 14), "Every run", size=13, bold=True)
    svg.text((STRIPS, TOP - 14), "By family", size=13, bold=True)
    if dots:
        _scatter(svg, dots)
        _strips(svg, dots, scores)
    return str(svg)


def _dots(made: Validation, runs: Sequence[PublishedRun], catalog: Catalog) -> Iterator[Dot]:
    predicted = {it["id"]: float(it["step_time_s"]) for it in made.predictions}
    for run in runs:
        if run.id in predicted and run.step_time_s and run.scorable is not False:
            experts = catalog.model(run.model).experts > 0
            yield Dot(run.family or "none", run.step_time_s, predicted[run.id], experts)


def _told(scores: Sequence[Score]) -> str:
    """Return the errors by family in words."""
    return "; ".join(
        f"{s.group}: {s.runs} runs, median error {100 * s.median_abs_error:.1f} %, "
        f"p90 {100 * s.p90_abs_error:.1f} %"
        for s in scores
    )


def _legend(svg: Svg, experts: bool) -> None:
    kinds = [(BLUE, "dense"), *([(ORANGE, "mixture of experts")] if experts else [])]
    x = float(EDGE)
    for colour, words in kinds:
        svg.dots([(x + 5, 58)], colour, size=9)
        svg.text((x + 16, 62), words, colour=MUTED)
        x += 40 + 7 * len(words)
    rules = "shaded: within 10 %; bar: the median; beyond half or double: drawn at the end"
    svg.text((x, 62), rules, colour=MUTED)


def _scatter(svg: Svg, dots: Sequence[Dot]) -> None:
    ends = [s for dot in dots for s in (dot.measured_s, dot.predicted_s)]
    floor = TOP + SIDE
    across = Scale.over(ends, LEFT, LEFT + SIDE, log=True, room=0.04)
    upwards = Scale.over(ends, floor, TOP, log=True, room=0.04)
    svg.across(across, (TOP, floor), _seconds, "published step time")
    svg.upwards(upwards, (LEFT, LEFT + SIDE), _seconds, "predicted step time")
    svg.line([(LEFT, floor), (LEFT + SIDE, TOP)], MUTED, dash="4 3")
    for experts, colour in ((False, BLUE), (True, ORANGE)):
        places = [(across(d.measured_s), upwards(d.predicted_s)) for d in dots
                  if d.experts == experts]  # fmt: skip
        if places:
            svg.dots(places, colour, size=4, opacity=0.55)


def _seconds(value: float) -> str:
    return format_duration(value).replace(".00", "").replace(".0 ", " ")


def _strips(svg: Svg, dots: Sequence[Dot], scores: Sequence[Score]) -> None:
    """Draw a row for each family: its errors as dots, their median as a bar, the numbers."""
    ratio = Scale(low=1 / FURTHEST, high=FURTHEST, start=STRIPS, end=STRIPS_END, log=True)
    floor = TOP + ROW * len(scores)
    svg.box((ratio(0.9), TOP), ratio(1.1) - ratio(0.9), floor - TOP, PALE)
    for value in (0.5, 0.7, 1.0, 1.4, 2.0):
        x = ratio(value)
        svg.line([(x, TOP), (x, floor)], INK if value == 1 else LINE)
        svg.text((x, floor + 16), f"{value:g}", size=11, anchor="middle", colour=MUTED)
    middle = (STRIPS + STRIPS_END) / 2
    svg.text((middle, floor + 34), "predicted / published (logarithmic)", anchor="middle",
             colour=MUTED)  # fmt: skip
    svg.text((WIDTH - EDGE, TOP - 14), "|error|: median, p90", size=11, anchor="end", colour=MUTED)
    for k, score in enumerate(scores):
        _strip(svg, ratio, TOP + ROW * (k + 0.5), score, dots)


def _strip(svg: Svg, ratio: Scale, y: float, score: Score, dots: Sequence[Dot]) -> None:
    everyone = score.group == "all"
    own = [dot for dot in dots if everyone or dot.family == score.group]
    svg.text((STRIPS - 12, y + 4), f"{score.group} ({format_int(score.runs)})", anchor="end",
             bold=everyone)  # fmt: skip
    bias = ratio(min(max(1 + score.bias, 1 / FURTHEST), FURTHEST))
    svg.line([(bias, y - 11), (bias, y + 11)], INK, width=2.5)
    for experts, colour in ((False, BLUE), (True, ORANGE)):
        errors = [dot.predicted_s / dot.measured_s for dot in own if dot.experts == experts]
        if errors:
            places = [(ratio(min(max(error, 1 / FURTHEST), FURTHEST)), y + _aside(k))
                      for k, error in enumerate(sorted(errors))]  # fmt: skip
            svg.dots(places, colour, size=3, opacity=0.5)
    svg.text((WIDTH - EDGE, y + 4), f"{100 * score.median_abs_error:.1f}, "
             f"{100 * score.p90_abs_error:.1f} %", anchor="end", bold=everyone)  # fmt: skip


def _aside(k: int) -> float:
    """Return how far the k-th dot of a row stands off its middle: evenly, without a pattern."""
    return 18 * ((k * GOLDEN) % 1 - 0.5)


GOLDEN: Final = 0.6180339887498949
"""Fractional parts of its multiples are spread evenly (Weyl)."""
