"""Candidates as columns: a layout of one island, and how many islands and worlds there are.

Every field is a float or `[N]`, one entry per candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.cost.layout import Layout

Columns = TypeVar("Columns")
Index = NDArray[np.intp] | NDArray[np.bool_] | slice | int
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
TABLE: Final = 100_000
"""Entries of a table that are always worth it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """What is chosen: the layout inside an island, its worlds, the islands, their batch."""

    layout: Layout
    """Of one island; worlds are data-parallel replicas of each other, in `dp_replicate`."""
    islands: Num
    """Islands joined by outer steps; 1 for a run in step everywhere."""
    worlds: Num
    """torch.distributed worlds in one island."""
    batch: Num
    """Sequences per step of one island."""


def size(candidates: Candidates) -> int:
    """Return how many candidates there are."""
    return int(np.size(candidates.layout.tp))


def take(record: Columns, index: Index) -> Columns:
    """Select candidates of any record of columns; plain numbers stay as they are."""
    if isinstance(index, np.ndarray) and index.dtype == bool:
        index = np.flatnonzero(index)  # once, and not for each column
    return _each(record, lambda value: value[index])


def upright(record: Columns) -> Columns:
    """Return candidates as the rows of a table, whose other columns are still to be given."""
    return _each(record, lambda value: value[:, None])


def listed(table: Columns, which: Mask) -> Columns:
    """Return some candidates of a table with a dimension for each axis, one below the other."""
    at = np.nonzero(which)

    def below(value: NDArray[Any]) -> NDArray[Any]:
        picked = value[tuple(0 if n == 1 else i for i, n in zip(at, value.shape, strict=True))]
        return np.full(at[0].size, picked) if np.ndim(picked) == 0 else picked

    return _each(table, below)


def repeated(record: Columns, counts: NDArray[np.intp] | int) -> Columns:
    """Write each candidate `counts` times; one number for all is several times as fast."""
    return _each(record, lambda value: value.repeat(counts))


def compact(record: Columns) -> Columns:
    """Turn columns that are the same everywhere into plain numbers: absent machinery costs nothing.

    The cost model leaves out operations whose count is zero everywhere.
    """
    return _each(record, uniform)


def joined(records: Sequence[Columns], sizes: Sequence[int]) -> Columns:
    """Write records of columns one below the other."""
    kind: Any = type(records[0])
    parts = {name: [getattr(record, name) for record in records] for name in _names(kind)}
    whole: Columns = kind(**{name: _below(values, sizes) for name, values in parts.items()})
    return whole


def _below(values: list[Any], sizes: Sequence[int]) -> Any:
    if is_dataclass(values[0]):
        return joined(values, sizes)
    column = np.empty(sum(sizes), dtype=np.result_type(*values))
    start = 0
    for value, count in zip(values, sizes, strict=True):
        column[start : start + count] = value
        start += count
    return column


def uniform(value: Any) -> Any:
    """Return a column that is the same everywhere as a number, others as they are."""
    if not isinstance(value, np.ndarray) or not value.size:
        return value
    first = value.flat[0]
    if value.flat[-1] != first:
        return value
    return float(first) if bool((value == first).all()) else value


def distinct(column: Num) -> tuple[Floats, NDArray[np.intp]]:
    """Return the values of a column of whole numbers, rising, and where each entry is among them.

    By a table where that is shorter than the sort of `np.unique`.
    """
    column = np.asarray(column, dtype=float)
    numbers = column.astype(np.intp)
    if np.max(numbers, initial=0) > TABLE + 8 * numbers.size:
        values, where = np.unique(column, return_inverse=True)
        return values, where.ravel()
    seen = np.bincount(numbers) > 0
    return np.flatnonzero(seen).astype(float), (np.cumsum(seen) - 1)[numbers]


def _each(record: Columns, change: Callable[[Any], Any]) -> Columns:
    """Apply `change` to every column, those of nested records included."""
    kind: Any = type(record)
    new: dict[str, Any] = {}
    for name in _names(kind):
        value = getattr(record, name)
        if isinstance(value, np.ndarray):
            value = change(value)
        elif not isinstance(value, float | int) and is_dataclass(value):
            value = _each(value, change)
        new[name] = value
    changed: Columns = kind(**new)
    return changed


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """Return the fields of a kind of record: asking `dataclasses` takes as long as a column."""
    return tuple(field.name for field in fields(kind))
