"""Places where a site could stand: sites.toml becomes `Site`s."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crore.catalog.load import DATA
from crore.catalog.rows import Row, check_keys, number, read_provenance, words
from crore.catalog.types import Provenance
from crore.errors import InputError, shown
from crore.io import read_toml

RANGES: Final = ("grid_mw", "usd_per_kwh", "carbon_kg_per_kwh")
BY_HOUR: Final = "carbon_kg_per_kwh_by_hour"
KEYS: Final = ("title", "latitude", "longitude", *RANGES, BY_HOUR)
EARTH_KM: Final = 6371.0
Spread = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One place; ranges are (low, value, high)."""

    name: str
    title: str
    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""
    grid_w: Spread
    """What the grid may feed it, at the meter."""
    usd_per_kwh: Spread
    carbon_kg_per_kwh: Spread
    provenance: Provenance
    carbon_by_hour: tuple[float, ...] = ()
    """kg CO2/kWh of each of the 24 hours of a day, where they are known."""


def distance_km(one: Site, other: Site) -> float:
    """Return the great circle between two places (haversine)."""
    lat1, lat2 = math.radians(one.latitude), math.radians(other.latitude)
    half = math.radians(other.longitude - one.longitude) / 2
    chord = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(half) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(chord))


def build_site(name: str, row: Row, shared: Row) -> Site:
    """Return the place a row describes; `shared` is the source of rows that have none.

    InputError for one without a grid, off the globe, or with a range out of order.
    """
    label = f"site {shown(name)}"
    check_keys(label, row, KEYS)
    hours = _hours(label, row)
    if hours and RANGES[-1] not in row:
        row = {**row, RANGES[-1]: sum(hours) / len(hours)}
    grid, usd, carbon = (_spread(label, row, key) for key in RANGES)
    if grid[1] <= 0:
        raise InputError(f"{label} has no grid: grid_mw is above 0, or leave the site out")
    north, east = (number(label, row, key, least=-180.0) for key in ("latitude", "longitude"))
    if abs(north) > 90 or abs(east) > 180:
        raise InputError(f"{label}: {north:g}, {east:g} is no latitude and longitude")
    low, value, high = (1e6 * x for x in grid)
    return Site(
        name=name, title=words(label, row, "title", name), latitude=north, longitude=east,
        grid_w=(low, value, high), usd_per_kwh=usd, carbon_kg_per_kwh=carbon,
        provenance=read_provenance(label, {**shared, **row}), carbon_by_hour=hours,
    )  # fmt: skip


def _hours(label: str, row: Row) -> tuple[float, ...]:
    given = row.get(BY_HOUR, [])
    if not isinstance(given, list) or len(given) not in (0, 24):
        raise InputError(f"{label}: {BY_HOUR} is a list of 24 numbers, not {shown(given)}")
    return tuple(number(label, {BY_HOUR: one}, BY_HOUR) for one in given)


def _spread(label: str, row: Row, key: str) -> Spread:
    """Return a range, given as one number or three."""
    given = row.get(key)
    values = given if isinstance(given, list) else [given] * 3
    if len(values) != 3:
        raise InputError(f"{label}: {key} is a number or [low, value, high], not {shown(given)}")
    low, value, high = (number(label, {key: one}, key) for one in values)
    if not low <= value <= high:
        raise InputError(f"{label}: {key}: low <= value <= high, not {low:g}, {value:g}, {high:g}")
    return low, value, high


def read_sites(path: Path) -> Mapping[str, Site]:
    """Return the places of a file; InputError when it holds none or a row is not sound."""
    tables = read_toml(path)
    rows = tables.get("sites")
    if not isinstance(rows, Mapping) or not rows:
        raise InputError(f"{path.name[:60]} has no sites: write [sites.NAME] above each")
    shared = tables.get("_prices", {})
    return {name: build_site(name, row, shared) for name, row in rows.items()}


@functools.cache
def load_sites() -> Mapping[str, Site]:
    """Return the shipped places."""
    return read_sites(DATA / "sites.toml")
