"""An answer as a static HTML fragment for notebooks: a verdict and two tables, no scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from crore.plan.record import verdict
from crore.units import format_bytes, three_digits

if TYPE_CHECKING:
    from crore.plan.answer import Answer


def answer_html(answer: Answer) -> str:
    """Return the best plan of an answer: its verdict, its layout, where time and memory go."""
    plan = answer.plan
    axes = ("pp", "vpp", "schedule", "dp_replicate", "dp_shard", "zero", "cp", "tp", "ep",
            "micro_batch", "recompute", "precision")  # fmt: skip
    layout = [(name, str(plan.layout[name])) for name in axes]
    time = [(name, f"{three_digits(s)} s") for name, s in plan.step_split_s.items() if s]
    held = [(name, format_bytes(b)) for name, b in plan.memory_split_bytes.items() if b]
    tables = "".join(
        _table(title, rows)
        for title, rows in (("layout", layout), ("time of a step", time), ("memory", held))
    )
    model = f"{plan.question.model.name} on {plan.gpus:,} x {plan.question.accelerator.name}"
    return f"<div><p><b>{escape(verdict(plan))}</b><br>{escape(model)}</p>{tables}</div>"


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in rows)
    return (
        '<table style="display:inline-table;vertical-align:top;margin-right:2em">'
        f"<caption>{escape(title)}</caption>{body}</table>"
    )
