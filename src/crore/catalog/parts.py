"""Parts of a network (switches, optics, cables, adapters): prices with their range, power in W."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast, get_args

from crore.catalog.load import DATA
from crore.catalog.rows import Row, check_keys, choice, number, read_provenance, whole, words
from crore.catalog.types import Provenance
from crore.errors import InputError, UnknownName, shown
from crore.io import read_toml

PartKind = Literal["switch", "optic", "copper", "fibre", "nic", "ocs", "coherent", "pair-km"]
PART_KEYS = ("title", "kind", "gbit_per_s", "ports", "price_usd", "power_w")


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure nobody publishes: a likely value, and the low and high that bound it."""

    low: float
    value: float
    high: float

    def spread(self) -> tuple[float, float, float]:
        """Return (low, value, high)."""
        return self.low, self.value, self.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One thing that a network is bought of."""

    name: str
    title: str
    kind: PartKind
    bytes_per_s: float
    """One direction: all ports of a switch together; what one unit of another part carries."""
    ports: int
    """The most ports a switch can be split into; 0 for other parts."""
    price_usd: Estimate
    power_w: float
    """Typical draw; a switch without its optics."""
    provenance: Provenance


def build_part(name: str, row: Row) -> Part:
    """Return the part a row describes; InputError when a figure is missing or out of range."""
    label = f"part {shown(name)}"
    check_keys(label, row, PART_KEYS)
    kind = cast(PartKind, choice(label, row, "kind", get_args(PartKind)))
    return Part(
        name=name,
        title=words(label, row, "title"),
        kind=kind,
        bytes_per_s=number(label, row, "gbit_per_s", positive=True) * 1e9 / 8,
        ports=whole(label, row, "ports", least=2) if kind == "switch" else 0,
        price_usd=_price(label, row.get("price_usd")),
        power_w=number(label, row, "power_w"),
        provenance=read_provenance(label, row),
    )


def _price(label: str, given: Any) -> Estimate:
    if not isinstance(given, list) or len(given) != len(("low", "value", "high")):
        raise InputError(f"{label}: price_usd is [low, likely, high], not {shown(given)}")
    low, value, high = (number(label, {"price_usd": price}, "price_usd") for price in given)
    if not low <= value <= high:
        raise InputError(f"{label}: price_usd is [low, likely, high], rising, not {shown(given)}")
    return Estimate(low=low, value=value, high=high)


@cache
def parts() -> Mapping[str, Part]:
    """Return the shipped parts by name, in file order."""
    rows = read_toml(DATA / "parts.toml")
    return {name: build_part(name, row) for name, row in rows.items()}


def part(name: str, kind: PartKind) -> Part:
    """Return the part called `name`; UnknownName when there is none of that kind."""
    found = parts().get(name)
    if found is None or found.kind != kind:
        raise UnknownName(kind, name, [p.name for p in parts().values() if p.kind == kind])
    return found
