"""Prices and lifetimes, each with a low and a high: economics.toml becomes `Figure`s."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crore.catalog.load import DATA
from crore.catalog.rows import Row, check_keys, number, read_provenance, words
from crore.catalog.types import Provenance
from crore.errors import InputError, UnknownName, shown
from crore.io import read_toml

FIGURE_KEYS = ("low", "value", "high", "unit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure with its range."""

    low: float
    value: float
    high: float
    unit: str
    """As the row says it: "USD/kWh", "years", "share"."""
    provenance: Provenance

    def spread(self) -> tuple[float, float, float]:
        """Return (low, value, high)."""
        return self.low, self.value, self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Economics:
    """What money and power cost, and what others charge."""

    figures: Mapping[str, Figure]
    rentals: Mapping[str, Figure]
    """Accelerator -> USD per GPU-hour on demand."""
    own: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    """Accelerator -> figures of its own, in place of the general ones."""

    def of(self, accelerator: str) -> Economics:
        """Return the same with an accelerator's own figures laid over the general ones."""
        return replace(self, figures={**self.figures, **self.own.get(accelerator, {})})

    def figure(self, name: str) -> Figure:
        """Return a figure by its key; UnknownName when there is none."""
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures)
        return self.figures[name]

    def rental(self, accelerator: str) -> Figure | None:
        """Return USD per GPU-hour of an accelerator; None where nobody was seen to rent it out."""
        return self.rentals.get(accelerator)


def build_figure(name: str, row: Row, *, signed: bool = False) -> Figure:
    """Return the figure a row describes; InputError when its range is out of order.

    Only a `signed` one may be below zero.
    """
    label = f"figure {shown(name)}"
    check_keys(label, row, FIGURE_KEYS)
    least = -1.0 if signed else 0.0
    low, value, high = (number(label, row, key, least=least) for key in ("low", "value", "high"))
    if not low <= value <= high:
        raise InputError(f"{label}: low <= value <= high, not {low:g}, {value:g}, {high:g}")
    unit = words(label, row, "unit")
    return Figure(
        low=low, value=value, high=high, unit=unit, provenance=read_provenance(label, row)
    )


@functools.cache
def load_economics() -> Economics:
    """Return the shipped figures."""
    tables = read_toml(DATA / "economics.toml")
    figures, rentals = (
        {name: build_figure(name, row) for name, row in tables[section].items()}
        for section in ("figures", "rentals")
    )
    own = {
        part: {name: build_figure(f"{part}.{name}", row) for name, row in rows.items()}
        for part, rows in tables["own"].items()
    }
    for part, rows in own.items():
        if unknown := [name for name in rows if name not in figures]:
            raise UnknownName(f"figure of {part}", unknown[0], figures)
    return Economics(figures=figures, rentals=rentals, own=own)
