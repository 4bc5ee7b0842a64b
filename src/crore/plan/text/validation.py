"""A validation as tables, misses included."""

from __future__ import annotations

import numpy as np

from crore.plan.validate import Score, Validation

COLUMNS = ("runs", "median", "p90", "bias", "mean", "in 10 %", "in 80 %")
HEAD = f"{'':<22}" + "".join(f"{name:>8}" for name in COLUMNS)
SMALL = 10


def _row(s: Score) -> str:
    return (
        f"{s.group:<22}{s.runs:>8}{100 * s.median_abs_error:>7.1f}%{100 * s.p90_abs_error:>7.1f}%"
        f"{100 * s.bias:>+7.1f}%{100 * s.mean_error:>+7.1f}%{100 * s.within_10_percent:>7.0f}%"
        f"{100 * s.coverage:>7.0f}%"
    )


def render_validation(made: Validation) -> str:
    """Return the tables of a validation: one per grouping, then memory and a summary."""
    lines: list[str] = []
    for name, rows in made.scores.items():
        if rows:
            lines += [f"step time by {name}".ljust(22), HEAD, *(_row(row) for row in rows), ""]
    lines += _summary(made)
    return "\n".join(lines)


def _summary(made: Validation) -> list[str]:
    lines = []
    families = [s for s in made.scores.get("family", []) if s.runs >= SMALL and s.group != "all"]
    if families:
        medians = [s.median_abs_error for s in families]
        lines.append(
            f"families of {SMALL} runs or more, each counted once: mean of medians "
            f"{100 * np.mean(medians):.1f} %, worst {100 * max(medians):.1f} %"
        )
    if made.memory:
        m = made.memory
        lines.append(
            f"peak memory: {m.runs} runs, median |error| {100 * m.median_abs_error:.1f} %, "
            f"p90 {100 * m.p90_abs_error:.1f} %"
        )
    lines.append(
        f"{made.measured:,} measured runs, {100 * made.ran_and_fit:.1f} % of them predicted to fit"
        if made.ran_and_fit is not None
        else f"0 measured runs, so no score; {len(made.predictions):,} predicted: see --predictions"
    )
    if made.skipped:
        shown = "; ".join(made.skipped[:5]) + ("; …" if len(made.skipped) > 5 else "")
        lines.append(f"{len(made.skipped):,} runs were not predicted: {shown}")
    if made.measured:
        lines.append(
            "median, p90: |predicted/measured - 1|; bias: median; in 80 %: inside the 80 % interval"
        )
    return lines
