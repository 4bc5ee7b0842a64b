"""What fits, as text: the verdict first, then one table, then what else would fit."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap
from typing import Final

from crore.cost import parameters, shape_of
from crore.plan.fit import Fit, ModeFit
from crore.plan.fit_money import Tuning
from crore.plan.text.screen import Screen
from crore.plan.text.takes import mover, ranged
from crore.units import (
    format_bytes,
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_kg,
    format_usd,
)

PIPED: Final = Screen()
HEAD = ("mode", "memory", "verdict", "largest context", "largest batch", "tokens/s")


def render_fit(fit: Fit, screen: Screen = PIPED) -> str:
    """Return the answer as lines no wider than the screen."""
    rows = table(fit)
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    apart = "  " if sum(widths) + 2 * len(widths) <= screen.columns else " "
    modes = [apart.join(map(str.ljust, row, widths)).rstrip() for row in rows]
    width = max(map(len, fit.largest))
    largest = [f"  {mode:<{width}}  {name or 'none'}" for mode, name in fit.largest.items()]
    derived = [f"{'assumed' if i == 0 else '':<8}{line}" for i, line in enumerate(fit.derived)]
    lines = [
        fit.verdict, what(fit), "", *modes, "", *_offloaded(fit), *_tuning(fit),
        f"largest released model of the catalogue that fits, {fit.context:,} tokens",
        *largest, "", *derived,
    ]  # fmt: skip
    return "\n".join(
        part
        for line in lines
        for part in wrap(line, screen.columns, subsequent_indent=" " * 8, break_on_hyphens=False)
        or [""]
    )


def table(fit: Fit) -> list[tuple[str, ...]]:
    """Return the head and a row for each mode."""
    return [HEAD, *map(_cells, fit.modes)]


def _tuning(fit: Fit) -> list[str]:
    """Return what each mode that trains and fits takes, in four lines, and one above."""
    if not fit.tuning:
        return []
    width = max(len(one.mode) for one in fit.tuning)
    lines = [f"tuning on {format_count(float(fit.tuning[0].tokens))} tokens takes"]
    for one in fit.tuning:
        low, value, high = map(format_duration, one.run_s)
        cost = one.taken["cost_usd"]
        said = (
            f"{value} ({low} to {high}), steps of {one.batch:,} x {fit.context:,} tokens a card",
            _ranges(one, (("energy_j", "{}", format_energy),
                          ("co2_kg", "{} CO2", format_kg))) or "power unknown",
            "cost unknown" if cost is None else ranged(cost, format_usd) + mover(cost),
            _ranges(one, (("electricity_usd", "electricity alone {}", format_usd),
                          ("rental_usd", "rented {}", format_usd))),
        )  # fmt: skip
        lines += [
            f"  {one.mode if k == 0 else '':<{width}}  {line}"
            for k, line in enumerate(said)
            if line
        ]
    return [*lines, ""]


def _ranges(one: Tuning, asked: tuple[tuple[str, str, Callable[[float], str]], ...]) -> str:
    found = [(one.taken[key], words, show) for key, words, show in asked]
    return ", ".join(words.format(ranged(it, show)) for it, words, show in found if it is not None)


def _offloaded(fit: Fit) -> list[str]:
    """Return a line for each mode that the host can take a part of, and one above."""
    shared = [(row.mode, row.offload) for row in fit.modes if row.offload is not None]
    width = max((len(mode) for mode, _ in shared), default=0)
    lines = [
        f"  {mode:<{width}}  {format_int(it.card_layers)} layers on the card, "
        f"{format_bytes(it.card_bytes)}; {format_int(it.host_layers)} on the host, "
        f"{format_bytes(it.host_bytes)}; ≤ {it.tokens_per_s:.3g} tokens/s"
        for mode, it in shared
    ]
    return ["with a part on the host", *lines, ""] if lines else []


def what(fit: Fit) -> str:
    """Return the model, the cards and the length that the answer is about."""
    size = format_count(float(parameters(shape_of(fit.model))))
    each = " each" if fit.gpus > 1 else ""
    return (
        f"{fit.model.name} ({size} parameters) on {format_int(fit.gpus)} x {fit.accelerator.name}, "
        f"{format_bytes(fit.accelerator.memory_bytes)}{each}; {fit.context:,} tokens, batch 1"
    )


def _cells(row: ModeFit) -> tuple[str, ...]:
    if row.fits:
        verdict = "FITS (tight)" if row.tight else "FITS"
    else:
        verdict = f"no, {format_bytes(row.short_bytes)} short"
    return row.mode, format_bytes(row.bytes), verdict, _context(row), _batch(row), _speed(row)


def _context(row: ModeFit) -> str:
    if row.largest_context is None:
        return "no limit"
    ends = " (learned positions end)" if row.positions_end_it else ""
    return (format_int(row.largest_context) if row.largest_context else "none") + ends


def _batch(row: ModeFit) -> str:
    if row.largest_batch is None:
        return ""
    return format_int(row.largest_batch) if row.largest_batch else "none"


def _speed(row: ModeFit) -> str:
    return f"≤ {row.tokens_per_s:.3g}" if row.fits and row.tokens_per_s is not None else ""
