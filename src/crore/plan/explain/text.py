"""An explanation as text: the number, its formula, what went in, what it is made of."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Final

from crore.plan.explain.entry import GROUPS
from crore.plan.explain.inputs import Input
from crore.plan.explain.parts import Item
from crore.plan.explain.traced import Explanation, Line, Numbers, difference
from crore.units import (
    format_bytes,
    format_count,
    format_kg,
    format_percent,
    format_si,
    format_usd,
    three_digits,
)

WIDTH: Final = 118
LABEL: Final = 12
SHOWN: Final = 8
"""Operations, parts and movers printed; --json has all."""
TINY: Final = 1e-6
"""Below, digits are given with an exponent."""
MOST_LINES: Final = 54
_SI: Final = {"FLOP/s": "FLOP/s", "FLOP": "FLOP", "W": "W", "J": "J"}


def render_explained(made: Numbers | Explanation) -> str:
    """Return what was asked for as lines of at most 120 columns."""
    return _numbers(made) if isinstance(made, Numbers) else _explanation(made)


def _numbers(made: Numbers) -> str:
    """The list of numbers in at most 60 lines; all of them below a key."""
    lines = [line for line in made.lines if line.listed or made.below]
    shown = lines if made.below else lines[:MOST_LINES]
    width = max((len(_short(line.key)) for line in shown), default=0)
    text = [made.verdict, *filter(None, [difference(made)])]
    group = ""
    for line in shown:
        head, group = ("" if line.group == group else line.group), line.group
        start = f"{head:<16} {_short(line.key):<{width}} {quantity(line.value, line.unit):>14}  "
        text.append((start + line.about)[:WIDTH].rstrip())
    text += _left_out([line for line in made.lines if line not in shown])
    return "\n".join([*text, "crore explain FILE KEY says where one of them comes from"])


def _left_out(rest: Sequence[Line]) -> list[str]:
    kinds = sorted({line.group for line in rest}, key=GROUPS.index)
    more = f"and {len(rest)} more in {', '.join(kinds)}; --json lists all"
    return textwrap.wrap(more, WIDTH, subsequent_indent="  ") if rest else []


def _explanation(made: Explanation) -> str:
    blocks = [_head(made), _formula(made), _inputs("inputs", made.inputs),
              _movers(made), _made_of(made), _next(made)]  # fmt: skip
    return "\n\n".join("\n".join(block) for block in blocks if block)


def quantity(value: Any, unit: str) -> str:
    """Return a number as one reads it, with its unit."""
    if not isinstance(value, (int, float)):
        return plain(value)
    if 0 < abs(value) < TINY:
        return f"{value:.2e} {unit}"
    kind, _, rest = unit.partition(" ")
    if kind in ("bytes", "bytes/s"):
        return f"{format_bytes(value)}{kind.removeprefix('bytes')} {rest}".rstrip()
    if kind in ("tokens", "tokens/s", "weights", "settings"):
        return f"{format_count(value)} {unit}"
    if unit in ("kg", "year"):
        return format_kg(value) if unit == "kg" else f"{value:.1f}"
    if unit == "share":
        return format_percent(value)
    if unit.startswith("USD"):
        return f"{format_usd(value)}{unit.removeprefix('USD')}"
    if unit in _SI:
        return format_si(value, unit)
    return f"{f'{value:,}' if isinstance(value, int) else three_digits(value)} {unit}".rstrip()


def plain(value: Any) -> str:
    """Return an input as it went into the formula: six digits, lists with commas."""
    if isinstance(value, (tuple, list)):
        return ", ".join(plain(it) for it in value)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and value < 1e9):
        return f"{int(value):,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _head(made: Explanation) -> list[str]:
    value = quantity(made.value, made.unit)
    if made.low is not None and made.high is not None:
        ends = f"{quantity(made.low, made.unit)} to {quantity(made.high, made.unit)}"
        value += f" ({ends}{_interval_of(made)})"
    lines = [
        *_wrap(made.key, made.about),
        *_wrap("value", f"{value}; exactly {made.value!r}"),
        *_wrap("evidence", made.evidence),
    ]
    if made.note:
        lines += _wrap("from", made.note)
    said = difference(made)
    return [*lines, *_wrap("file", f"{said}; it says {made.in_file!r}")] if said else lines


def _interval_of(made: Explanation) -> str:
    if made.key.endswith(("step_time_s.value", "days.value")):
        return ", 80 %"
    return ", low to high" if made.low is not None else ""


def _formula(made: Explanation) -> list[str]:
    lines = _wrap("formula", made.formula) if made.formula else []
    for note in made.functions:
        name = note.function.removeprefix("crore.")
        lines += _wrap("" if lines else "formula", f"{name}: {note.text}")
    return lines + (_wrap("cited", ", ".join(made.citations)) if made.citations else [])


def _inputs(title: str, inputs: Sequence[Input]) -> list[str]:
    lines: list[str] = []
    seen: dict[str, str] = {}
    for it in inputs:
        origin = f"as {seen[it.origin]}" if it.origin in seen else it.origin
        seen.setdefault(it.origin, it.name)
        effect = f" (1 % more: {it.effect:+.2f} %)" if it.effect is not None else ""
        # A number of the plan is named by its own key, which is what to ask for next.
        text = f"{it.name} = {plain(it.value)}{effect}; {origin}"
        lines += _wrap("" if lines else title, text, hang=4)
    return lines


def _movers(made: Explanation) -> list[str]:
    lines = _inputs("moved by", made.movers[:SHOWN])
    left = len(made.movers) - SHOWN
    return [*lines, *_wrap("", f"and {left} more that move it less")] if left > 0 else lines


def _made_of(made: Explanation) -> list[str]:
    if made.sum is None:
        return []
    sizes = "size of one" if any(it.size for it in made.made_of) else ""
    lines = [
        f"{'made of':<{LABEL}}{'':<40}{'count':>9}{made.unit:>12}{'share':>8}  {sizes}".rstrip()
    ]
    lines += [_item(it, made) for it in made.made_of[:SHOWN]]
    rest = made.made_of[SHOWN:]
    if rest:
        amount = sum(it.amount for it in rest)
        lines.append(_item(Item(name=f"{len(rest)} more", count=0.0, amount=amount), made))
    lines.append(f"{'sum':<{LABEL}}{made.sum!r} of the parts against {made.value!r} of the number")
    return lines


def _next(made: Explanation) -> list[str]:
    """Which inputs have an explanation of their own."""
    keys = [it.key for it in made.inputs if it.key]
    return _wrap("next", f"crore explain FILE {' | '.join(keys)}") if keys else []


def _item(it: Item, made: Explanation) -> str:
    count = plain(round(it.count, 3)) if it.count else ""
    share = f"{100 * it.amount / made.value:.1f} %" if made.value else ""
    amount = quantity(it.amount, made.unit) if made.unit == "bytes" else f"{it.amount:.5g}"
    line = f"{'':<{LABEL}}{it.name[:39]:<40}{count:>9}{amount:>12}{share:>8}  {it.size}"
    return line[:WIDTH].rstrip()


def _short(key: str) -> str:
    return key.removesuffix(".value")


def _wrap(label: str, text: str, hang: int = 0) -> list[str]:
    """Return text under a label, later lines indented."""
    first = f"{label:<{LABEL - 1}} " if len(label) < LABEL else f"{label}: "
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * (LABEL + hang),
        break_on_hyphens=False,
    )  # fmt: skip
