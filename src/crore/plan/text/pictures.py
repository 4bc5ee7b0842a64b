"""Plans as pictures (SVG): what fills the memory and the step, and the frontier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from crore.plan.answer import Answer, Plan
from crore.plan.record import verdict
from crore.plan.text.bars import waterfall
from crore.plan.text.pareto import as_burden, burden_of
from crore.plan.text.scale import Scale
from crore.plan.text.svg import (
    BLUE,
    CHARACTER,
    GREEN,
    INK,
    LINE,
    MUTED,
    ORANGE,
    PALE,
    Svg,
    clipped,
)
from crore.units import format_bytes, format_int, three_digits

WIDTH: Final = 760
EDGE, ROW, BAR = 24, 21, 13
"""Pixels at the sides, of a row, of the bar in it."""
FROM, TO = 190, 600
"""Where bars begin, and where the whole ends."""
BOLD: Final = 0.6
"""Width of a bold character, as a share of the size of the font."""
WORK: Final = ("products", "attention", "memory passes", "embedding, head, loss", "recompute",
               "optimizer")  # fmt: skip
"""Parts of a step in which a GPU computes; in the others it waits or sends."""


def answer_svg(answer: Answer) -> str:
    """Return the picture of an answer: a frontier, where one was asked for, or the best plan."""
    if answer.request.objective == "pareto" and len(answer.plans) > 1:
        return frontier_svg(answer.plans)
    return plan_svg(answer.plan)


def plan_svg(plan: Plan) -> str:
    """Return a plan's memory, against what the GPU has, and its step, as two waterfalls."""
    capacity, step_s = plan.question.memory_bytes, plan.step_time_s.value
    held = waterfall(plan.memory_split_bytes, capacity)
    spent = waterfall(plan.step_split_s, step_s)
    second = 138 + (len(held) + 1) * ROW
    height = second + 20 + len(spent) * ROW + 38
    svg = Svg(WIDTH, height, f"{called(plan)}: memory and time of a step", verdict(plan))
    heading(svg, verdict(plan), f"{called(plan)}; {_layout(plan)}")
    used, whole = format_bytes(plan.memory_bytes), format_bytes(capacity)
    _panel(svg, 92, f"Memory of the worst GPU: {used} of {whole}")
    _rows(svg, 112, plan.memory_split_bytes, capacity, format_bytes)
    floor = 112 + len(held) * ROW
    _free(svg, floor, plan.memory_bytes / capacity, format_bytes(capacity - plan.memory_bytes))
    svg.line([(TO, 104), (TO, floor + ROW)], INK, dash="4 3")
    svg.text((TO, 100), whole, anchor="middle", size=11, colour=MUTED)
    title = f"Time of a step: {three_digits(step_s)} s"
    _panel(svg, second, title)
    _rows(svg, second + 20, plan.step_split_s, step_s, lambda s: f"{three_digits(s)} s", WORK)
    _legend(svg, height - 20)
    return str(svg)


def called(plan: Plan) -> str:
    """Return what is trained on what: `llama3-8b on 64 x h100-sxm`."""
    q = plan.question
    return f"{q.model.name} on {format_int(plan.gpus)} x {q.accelerator.name}"


def heading(svg: Svg, first: str, second: str) -> None:
    """Write the two lines above a picture."""
    room = WIDTH - 2 * EDGE
    size = min(15.0, max(12.0, room / (BOLD * max(1, len(first)))))
    svg.text((EDGE, 34), clipped(first, room, size), size=size, bold=True)
    svg.text((EDGE, 56), clipped(second, room), colour=MUTED)


def _layout(plan: Plan) -> str:
    it = plan.layout
    axes = [f"{k} {it[k]}" for k in ("tp", "cp", "ep", "pp", "dp") if it[k] > 1]
    fleet = [f"{plan.islands} islands"] if plan.islands > 1 else []
    return ", ".join([*fleet, *axes, str(it["zero"]), f"recompute {it['recompute']}"])


def _panel(svg: Svg, y: float, title: str) -> None:
    svg.text((EDGE, y), title, size=13, bold=True)


def _rows(
    svg: Svg, top: float, parts: Mapping[str, float], total: float,
    show: Callable[[float], str], marked: Sequence[str] = (),
) -> None:  # fmt: skip
    """Draw a row for each part worth one; those that are not `marked` in another colour."""
    for k, part in enumerate(waterfall(parts, total)):
        y = top + k * ROW
        colour = BLUE if not marked else GREEN if part.name in marked else ORANGE
        start, end = (FROM + share * (TO - FROM) for share in (part.start, part.end))
        svg.line([(FROM, y + ROW - 4), (TO, y + ROW - 4)], PALE)
        svg.text((FROM - 12, y + BAR - 2), part.name, anchor="end")
        svg.box((start, y), max(end - start, 1.5), BAR, colour)
        _values(svg, y, show(part.value), part.value / total)


def _values(svg: Svg, y: float, value: str, share: float) -> None:
    svg.text((TO + 78, y + BAR - 2), value, anchor="end")
    svg.text((WIDTH - EDGE, y + BAR - 2), f"{100 * share:.1f} %", anchor="end", colour=MUTED)


def _free(svg: Svg, y: float, used: float, value: str) -> None:
    start = FROM + used * (TO - FROM)
    svg.text((FROM - 12, y + BAR - 2), "free", anchor="end", colour=MUTED)
    svg.box((start, y), max(TO - start, 1), BAR, PALE, edge=LINE)
    _values(svg, y, value, 1 - used)


def _legend(svg: Svg, y: float) -> None:
    x = float(FROM)
    for colour, words in ((GREEN, "the GPU computes"), (ORANGE, "it waits or sends")):
        svg.box((x, y - 10), 12, 12, colour)
        svg.text((x + 18, y), words, colour=MUTED)
        x += 160


def frontier_svg(plans: Sequence[Plan]) -> str:
    """Return two plans or more as dots, days across and dollars upwards, with their GPUs.

    The line joins those that no other beats in both; the rest take less energy or less risk.
    """
    name, heights = burden_of(plans)
    days = [plan.days.value for plan in plans]
    q = plans[0].question
    what = f"{q.model.name} on up to {format_int(q.gpus)} x {q.accelerator.name}"
    svg = Svg(WIDTH, 430, f"{what}: {name} over days", _told(plans))
    first = "No plan beats a dot in time, dollars, energy and risk; hollow: "
    heading(svg, f"{what}: {name} over days", f"{first}one does in the first two")
    across = Scale.over(days, 110, WIDTH - 40)
    upwards = Scale.over(heights, 370, 84)
    svg.across(across, (84, 370), lambda v: f"{v:g}" if v < 1e6 else f"{v:.0e}", "days")
    svg.upwards(upwards, (110, WIDTH - 40), lambda v: as_burden(name, v), name)
    places = [(across(x), upwards(y)) for x, y in zip(days, heights, strict=True)]
    best = _lower_left(list(zip(days, heights, strict=True)))
    svg.line([places[k] for k in best], BLUE, width=1.5)
    svg.dots(places, BLUE, size=9)
    svg.dots([place for k, place in enumerate(places) if k not in best], "white", size=5)
    _label(svg, plans, places)
    return str(svg)


def _told(plans: Sequence[Plan]) -> str:
    return "; ".join(
        f"{format_int(p.gpus)} GPUs: {three_digits(p.days.value)} days, "
        f"{as_burden('dollars', p.economy.usd[1]) if p.economy.usd else 'price unknown'}"
        for p in plans
    )


def _lower_left(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of points that none beats in both, by the first."""
    kept: list[int] = []
    for k in sorted(range(len(points)), key=lambda k: points[k]):
        if not kept or points[k][1] < points[kept[-1]][1]:
            kept.append(k)
    return kept


def _label(svg: Svg, plans: Sequence[Plan], places: Sequence[tuple[float, float]]) -> None:
    """Write the GPUs beside dots, where no other label or dot stands."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for plan, (x, y) in zip(plans, places, strict=True):
        words = f"{format_int(plan.gpus)} GPUs"
        width = 11 * CHARACTER * len(words)
        for left, top in ((x + 8, y - 18), (x + 8, y + 4), (x - 8 - width, y - 18),
                          (x - 8 - width, y + 6)):  # fmt: skip
            box = (left, top, left + width, top + 13)
            if left > 112 and box[2] < WIDTH - 8 and not any(_touch(box, it) for it in taken):
                svg.text((left, top + 11), words, size=11)
                taken.append(box)
                break


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
