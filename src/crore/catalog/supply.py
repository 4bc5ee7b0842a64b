"""How many GPUs a buyer gets, year by year: supply.toml becomes `Scenario`s."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crore.catalog.economics import Figure, build_figure
from crore.catalog.load import DATA
from crore.catalog.rows import Row, check_keys, choice, number, read_provenance, words
from crore.catalog.types import Provenance
from crore.errors import InputError, UnknownName, shown
from crore.io import read_toml

CAP_UNITS: Final = ("units/year", "wafers/month", "stacks/year")
EVERY: Final = ("attrition_per_year", "life_years", "h100_equivalents", "doubling_years",
                "growth_per_year", "buyer_share")  # fmt: skip
"""Figures that every scenario has."""
OF_UNIT: Final[Mapping[str, tuple[str, ...]]] = {
    "units/year": (),
    "wafers/month": ("package_mm2", "package_yield", "maker_share"),
    "stacks/year": ("stacks_per_unit", "maker_share"),
}
"""Unit of a cap -> the figures that turn it into units a year."""
SHARES: Final = ("buyer_share", "maker_share", "package_yield")
SIGNED: Final = "growth_per_year"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """One limit of supply; between knots it grows by the same share every year."""

    name: str
    unit: str
    knots: tuple[tuple[float, float, float, float], ...]
    """(year, low, value, high), years rising."""
    provenance: Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One course of supply."""

    name: str
    title: str
    begin: float
    """Year its clock starts, as 2026.9."""
    installed: float
    """Units the buyer has by then, delivered that day."""
    caps: tuple[Cap, ...]
    """The least of them is supplied."""
    figures: Mapping[str, Figure]
    provenance: Provenance

    def figure(self, name: str) -> Figure:
        """Return a figure by its key; UnknownName when there is none."""
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures)
        return self.figures[name]


def build_scenario(name: str, row: Row, common: Mapping[str, Figure]) -> Scenario:
    """Return the scenario a row describes.

    InputError for a figure out of range (a share above one, a life of nothing) or one that is
    missing.
    """
    label = f"scenario {shown(name)}"
    check_keys(label, row, ("title", "begin", "installed", "caps", "ranges"))
    own = {key: _figure(f"{name}.{key}", it) for key, it in row.get("ranges", {}).items()}
    figures = {**common, **own}
    caps = tuple(_cap(label, key, it) for key, it in row.get("caps", {}).items())
    if not caps:
        raise InputError(f"{label} has no caps: say what limits supply")
    needed = {*EVERY, *(key for cap in caps for key in OF_UNIT[cap.unit])}
    if missing := sorted(needed - figures.keys()):
        raise InputError(f"{label} lacks figures: {', '.join(missing)}")
    for key, figure in figures.items():
        if key in SHARES and figure.high > 1:
            raise InputError(f"{label}: {key} is a share up to 1, not {figure.high:g}")
    for key in ("life_years", "doubling_years", "h100_equivalents"):
        if figures[key].low <= 0:
            raise InputError(f"{label}: {key} is above 0, not {figures[key].low:g}")
    return Scenario(
        name=name, title=words(label, row, "title"), begin=number(label, row, "begin"),
        installed=number(label, row, "installed", 0.0), caps=caps, figures=figures,
        provenance=read_provenance(label, row),
    )  # fmt: skip


def _figure(name: str, row: Row) -> Figure:
    return build_figure(name, row, signed=name.endswith(SIGNED))


def _cap(label: str, name: str, row: Row) -> Cap:
    what = f"{label}, cap {shown(name)}"
    check_keys(what, row, ("unit", "knots"))
    knots = row.get("knots")
    if not isinstance(knots, list) or not knots:
        raise InputError(f"{what}: knots is a list of [year, low, value, high]")
    read = tuple(_knot(what, knot) for knot in knots)
    years = [knot[0] for knot in read]
    if any(later <= sooner for sooner, later in itertools.pairwise(years)):
        raise InputError(f"{what}: the years of its knots rise, not {shown(years)}")
    return Cap(
        name=name, unit=choice(what, row, "unit", CAP_UNITS), knots=read,
        provenance=read_provenance(what, row),
    )  # fmt: skip


def _knot(what: str, knot: Any) -> tuple[float, float, float, float]:
    keys = ("year", "low", "value", "high")
    if not isinstance(knot, list) or len(knot) != len(keys):
        raise InputError(f"{what}: a knot is [year, low, value, high], not {shown(knot)}")
    row = dict(zip(keys, knot, strict=True))
    year, low, value, high = (number(what, row, key, positive=True) for key in keys)
    if not low <= value <= high:
        raise InputError(f"{what}: low <= value <= high, not {low:g}, {value:g}, {high:g}")
    return year, low, value, high


@functools.cache
def load_scenarios() -> Mapping[str, Scenario]:
    """Return the shipped scenarios by name."""
    tables = read_toml(DATA / "supply.toml")
    common = {name: build_figure(name, row) for name, row in tables["common"].items()}
    return {name: build_scenario(name, row, common) for name, row in tables["scenarios"].items()}


def scenario(name: str) -> Scenario:
    """Return a scenario by its name in any case; UnknownName when there is none."""
    rows = load_scenarios()
    key = name.strip().lower()
    if key not in rows:
        raise UnknownName("scenario", name, rows)
    return rows[key]
