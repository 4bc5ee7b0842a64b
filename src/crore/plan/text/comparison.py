"""A comparison as text: who is slower and why, the table, the factors."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from crore.plan.answer import Plan
from crore.plan.comparison import LETTERS, METHOD, OF_STEP, Comparison, Difference, Factor, Ratio
from crore.plan.figures import Figures, figures_of
from crore.plan.text.screen import Screen
from crore.plan.text.takes import ranged
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_kg,
    format_percent,
    format_si,
    format_usd,
    format_watts,
    three_digits,
)

PIPED: Final = Screen()
SHOWN: Final = 0.01
"""Causes that change a figure by less stand in one line together."""
SAME: Final = 0.005
"""Ratios this near to one are called the same."""
CAUSES: Final = 3
"""Causes named in a verdict."""
NAME: Final = 60
"""Characters of a name, the last ones: they tell files apart."""
SHARES: Final = ("of the time", "per token", "of the mean")
"""Units of figures near one."""
AXES: Final = ("tp", "cp", "ep", "etp", "pp", "vpp", "dp", "micro_batch")
Rows = list[tuple[str, list[str]]]


def render_comparison(made: Comparison, screen: Screen = PIPED) -> str:
    """Return a comparison as lines no wider than the screen."""
    legend = [
        f"{letter}  {_called(name, _what(plan))}"
        for letter, name, plan in zip(LETTERS, made.names, made.plans, strict=False)
    ]
    notes = [f"{'notes' if k == 0 else '':<12}{note}" for k, note in enumerate(made.notes)]

    def broken(lines: Iterable[str], indent: int) -> Iterator[str]:
        for line in lines:
            yield from textwrap.wrap(
                line, screen.columns, subsequent_indent=" " * indent, break_on_hyphens=False
            )

    causes = [line for it in made.differences for line in ("", *broken(causes_of(it), 4))]
    lines = [
        *broken(verdicts(made), 2), *broken(legend, 3), "", *_table(rows(made), screen.columns),
        *causes, "", *broken([f"method      {METHOD}", *notes], 12),
    ]  # fmt: skip
    return "\n".join(lines)


def verdicts(made: Comparison) -> list[str]:
    """Return one sentence per answer after the first: how much longer, how much dearer, why."""
    return [_verdict(it) for it in made.differences]


def _verdict(it: Difference) -> str:
    days = it.days.ratio
    same = abs(days - 1) <= SAME
    takes = "as long as A" if same else f"{three_digits(days)}x as long as A"
    money = ""
    if it.usd is not None:
        dear = it.usd.ratio
        alike = abs(dear - 1) <= SAME
        money = f" and costs {'as much' if alike else f'{three_digits(dear)}x as much'}"
    causes = [f"{percent(f)} {f.name}" for f in largest(it.days)[:CAUSES]]
    return f"{it.letter} takes {takes}{money}{': ' if causes else ''}{', '.join(causes)}"


def largest(ratio: Ratio) -> list[Factor]:
    """Return the causes worth a line, the largest first, whichever way they work."""
    found = [f for f in ratio.factors if abs(f.factor - 1) >= SHOWN]
    return sorted(found, key=lambda f: -max(f.factor, 1 / f.factor))


def percent(it: Factor) -> str:
    """Return a factor as a signed change: `+11 %`, `-4.2 %`; what doubles or more: `x5.83`."""
    change = 100 * (it.factor - 1)
    if not 0.1 < it.factor < 2:
        return f"x{three_digits(it.factor)}"
    return f"{change:+.{0 if abs(change) >= 10 else 1}f} %"


def causes_of(it: Difference) -> Iterator[str]:
    """Yield a difference as lines: every cause worth one, the rest together, then the dollars."""
    yield f"{it.letter} against A: days x{three_digits(it.days.ratio)}"
    large = largest(it.days)
    names = max((len(f.name) for f in large), default=0)
    for f in large:
        yield f"  {percent(f):>8}  {f.name:<{names}}  {span(f)}"
    rest = [f.factor for f in it.days.factors if f not in large and f.factor != 1]
    if rest:
        change = f"{100 * (math.prod(rest) - 1):+.1f} %"
        yield f"  {change:>8}  {len(rest)} others together, each below 1 %"
    left = f"residual {it.days.residual:.0e}"
    yield f"  the factors multiply to x{three_digits(it.days.ratio)}, {left}"
    yield _dollars(it)


def _dollars(it: Difference) -> str:
    if it.usd is None:
        return f"{it.letter} against A: dollars unknown, the price of one of the two is"
    price = it.usd.factors[-1]
    return (
        f"{it.letter} against A: dollars x{three_digits(it.usd.ratio)}: the same factors, the GPUs "
        f"left out, and {percent(price)} {price.name} ({span(price)})"
    )


def span(it: Factor) -> str:
    """Return a cause's figure in both answers: `16,384 -> 8,192`."""
    if it.unit == OF_STEP:
        return f"{format_percent(it.before)} -> {format_percent(it.after)} {it.unit}"
    show: Callable[[float], str] = {
        "FLOP/s": lambda v: format_si(v, "FLOP/s"),
        "B/s": lambda v: format_si(v, "B/s"),
        "GPUs": format_int,
        "USD": lambda v: f"${v:.2f}",
        **dict.fromkeys(SHARES, lambda v: f"{v:.3f}"),
    }.get(it.unit, format_count)
    after = f" {it.unit}" if it.unit in ("FLOP", *SHARES) else ""
    return f"{show(it.before)} -> {show(it.after)}{after}"


def rows(made: Comparison) -> Rows:
    """Return the table: a label, and a cell for each answer."""
    plans = made.plans
    axes = [
        (axis.replace("_", "-"), [str(plan.layout[axis]) for plan in plans])
        for axis in AXES
        if any(plan.layout[axis] > 1 for plan in plans)
    ]
    words = [
        (word, [str(plan.layout[word]) for plan in plans])
        for word in ("schedule", "zero", "recompute", "precision")
    ]
    top, bottom = ([(label, [cell(p) for p in plans]) for label, cell in part] for part in _CELLS)
    figures = [figures_of(plan) for plan in plans]
    taken = [(label, [cell(it) for it in figures]) for label, cell in _FIGURES]
    return [*top, *axes, *words, *taken, *bottom]


def _what(plan: Plan) -> str:
    q = plan.question
    return (
        f"{q.model.name} on {format_int(plan.gpus)} x {q.accelerator.name}, "
        f"{format_count(q.tokens)} tokens, stack {q.stack_name}"
    )


def _figure(key: str, show: Callable[[float], str]) -> Callable[[Figures], str]:
    """Return a cell: a figure's median with its 80 % interval."""

    def cell(it: Figures) -> str:
        one = it.taken[key]
        return "unknown" if one is None else ranged(one, show)

    return cell


def _capital(it: Figures) -> str:
    """Return a cell: who rents, and has a cost all the same, buys nothing."""
    known, bought = it.taken["cost_usd"] is not None, it.taken["capital_usd"] is not None
    return "none" if known and not bought else _figure("capital_usd", format_usd)(it)


_FIGURES: Final = (
    ("power", _figure("power_w", format_watts)),
    ("energy", _figure("energy_j", format_energy)),
    ("carbon", _figure("co2_kg", format_kg)),
    ("dollars", _figure("cost_usd", format_usd)),
    ("capital", _capital),
    ("per 1e24 FLOP", _figure("cost_per_1e24_flop_usd", format_usd)),
    ("per 1T tokens", _figure("cost_per_1t_tokens_usd", format_usd)),
    ("sites", _figure("sites", format_int)),
    ("delivered", _figure("ready_year", lambda year: f"{year:.1f}")),
)
"""Rows of what a plan takes."""


def _fabric(plan: Plan) -> str:
    named, design = plan.network.named, plan.network.design
    if named is not None:
        return f"{named.name} (given)"
    if design is None:
        return "the machine's own"
    return (
        f"{design.topology}, {design.tiers} tiers x {design.planes} planes, taper {design.taper:g}"
    )


def _binds(plan: Plan) -> str:
    return ", ".join(limit.name for limit in plan.limits if limit.binds) or "none"


_Cells = list[tuple[str, Callable[[Plan], str]]]
_CELLS: tuple[_Cells, _Cells] = (
    [
        ("days", lambda p: three_digits(p.days.value)),
        ("days, 80 %", lambda p: f"{three_digits(p.days.low)} to {three_digits(p.days.high)}"),
        ("evidence", lambda p: p.days.evidence),
        ("step", lambda p: format_duration(p.step_time_s.value)),
        ("batch", lambda p: format_count(p.global_batch_tokens) + " tokens"),
        ("tokens/s", lambda p: format_count(p.tokens_per_s)),
        ("MFU", lambda p: format_percent(p.mfu)),
        ("memory", lambda p: format_bytes(p.memory_bytes)),
        ("GPU memory", lambda p: format_bytes(p.question.memory_bytes)),
        ("goodput", lambda p: f"{p.goodput:.3f}"),
        ("GPUs", lambda p: format_int(p.gpus)),
        ("islands", lambda p: format_int(p.islands)),
        ("worlds", lambda p: format_int(p.worlds)),
    ],
    [
        ("priced as", lambda p: p.economy.usd_basis.partition(":")[0]),
        ("fabric", _fabric),
        ("binds", _binds),
    ],
)


def _table(lines: Rows, wide: int) -> Iterator[str]:
    """Yield the table, cells wrapped so that no line is longer than that."""
    count = len(lines[0][1])
    first = max(len(label) for label, _ in lines)
    room = (wide - first) // count - 2
    cells = [(label, [textwrap.wrap(cell, room) or [""] for cell in row]) for label, row in lines]
    cells.insert(0, ("", [[letter] for letter in LETTERS[:count]]))
    widths = [max(len(part) for _, row in cells for part in row[k]) for k in range(count)]
    for label, row in cells:
        for k in range(max(len(cell) for cell in row)):
            parts = [
                (cell[k] if k < len(cell) else "").ljust(width)
                for cell, width in zip(row, widths, strict=True)
            ]
            yield "  ".join([(label if k == 0 else "").ljust(first), *parts]).rstrip()


def _called(name: str, what: str) -> str:
    """Put a name before what it stands for, unless that begins with it."""
    short = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
    return what if what.startswith(f"{name} ") else f"{short}: {what}"
