"""Answers as static HTML for notebooks: what is said first, a picture, tables; no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from crore.plan.answer import Answer
from crore.plan.comparison import LETTERS, Comparison
from crore.plan.fit import Fit
from crore.plan.record import verdict
from crore.plan.text.causes import comparison_svg
from crore.plan.text.comparison import largest, percent, rows, span, verdicts
from crore.plan.text.fit import table, what
from crore.plan.text.pictures import answer_svg
from crore.units import format_bytes, three_digits

SIDE_BY_SIDE: Final = "display:inline-table;vertical-align:top;margin-right:2em;text-align:left"
AXES: Final = ("pp", "vpp", "schedule", "dp_replicate", "dp_shard", "zero", "cp", "tp", "ep",
               "micro_batch", "recompute", "precision")  # fmt: skip
"""Of a layout, what its table shows."""


def answer_html(answer: Answer) -> str:
    """Return an answer: its verdict, its picture, the best plan's layout, time and memory."""
    plan = answer.plan
    layout = [[name, str(plan.layout[name])] for name in AXES]
    time = [[name, f"{three_digits(s)} s"] for name, s in plan.step_split_s.items() if s]
    held = [[name, format_bytes(b)] for name, b in plan.memory_split_bytes.items() if b]
    tables = [
        _table(title, [], body)
        for title, body in (("layout", layout), ("time of a step", time), ("memory", held))
    ]
    model = f"{plan.question.model.name} on {plan.gpus:,} x {plan.question.accelerator.name}"
    said = f"<b>{escape(verdict(plan))}</b><br>{escape(model)}"
    return _together(said, answer_svg(answer), tables)


def comparison_html(made: Comparison) -> str:
    """Return a comparison: the verdicts, its picture, its table, one of causes for each."""
    said = "<br>".join(f"<b>{escape(line)}</b>" for line in verdicts(made))
    head = [f"{k}: {name}" for k, name in zip(LETTERS, made.names, strict=False)]
    tables = [_table("", ["", *head], [[label, *cells] for label, cells in rows(made)])]
    for it in made.differences:
        body = [[percent(f), f.name, span(f)] for f in largest(it.days)]
        title = f"{it.letter} against A: days x{three_digits(it.days.ratio)}"
        tables.append(_table(title, ["", "cause", "A -> " + it.letter], body))
    return _together(said, comparison_svg(made), tables)


def fit_html(fit: Fit) -> str:
    """Return what fits: the verdict, a row for each mode, the largest model of each."""
    said = f"<b>{escape(fit.verdict)}</b><br>{escape(what(fit))}"
    head, *modes = table(fit)
    largest = [[mode, name or "none"] for mode, name in fit.largest.items()]
    tables = [_table("", head, modes), _table("largest released model that fits", [], largest)]
    return _together(said, "", tables)


def _together(said: str, picture: str, tables: Sequence[str]) -> str:
    return f"<div><p>{said}</p>{picture}<div>{''.join(tables)}</div></div>"


def _table(title: str, head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(c)}</td>' for c in row[1:])}</tr>"
        for row in body
    )
    caption = f"<caption>{escape(title)}</caption>"
    above = f"<tr>{top}</tr>" if head else ""
    return f'<table style="{SIDE_BY_SIDE}">{caption}{above}{lines}</table>'
