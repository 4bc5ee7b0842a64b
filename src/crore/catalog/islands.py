"""What islands were measured to learn per token: islands.toml becomes records.

Crore's own runs on tiny models, whose numbers say how an outer step behaves and nothing about a
large model: the planner takes `crore.cost.islands.diloco_efficiency`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from crore.catalog.load import DATA
from crore.catalog.rows import Row, check_keys, number, read_provenance
from crore.catalog.types import Provenance
from crore.errors import InputError, shown
from crore.io import read_toml

COUNTS = ("islands", "interval", "parameters", "tokens")
SPREAD = ("low", "value", "high")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredIslands:
    """Progress per token of one setting over data parallel training."""

    islands: int
    interval: int
    """Inner steps between outer steps."""
    parameters: int
    tokens: int
    """Trained on, in all islands."""
    low: float
    """Tokens data parallel training needs for the same loss, over the tokens taken: least of the
    seeds; then their mean, and the largest."""
    value: float
    high: float
    provenance: Provenance


def build_measured_islands(name: str, row: Row) -> MeasuredIslands:
    """Return the record a row describes; InputError when its range is out of order."""
    label = f"measured islands {shown(name)}"
    check_keys(label, row, (*COUNTS, *SPREAD))
    counts = {key: int(number(label, row, key, positive=True)) for key in COUNTS}
    low, value, high = (number(label, row, key) for key in SPREAD)
    if not low <= value <= high:
        raise InputError(f"{label}: low <= value <= high, not {low:g}, {value:g}, {high:g}")
    return MeasuredIslands(
        **counts, low=low, value=value, high=high, provenance=read_provenance(label, row)
    )


@functools.cache
def load_measured_islands() -> tuple[MeasuredIslands, ...]:
    """Return the shipped rows."""
    rows = read_toml(DATA / "islands.toml")
    return tuple(build_measured_islands(name, row) for name, row in rows.items())
