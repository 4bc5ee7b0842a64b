"""The one numeric convention of this room: a column is a float or an `[N]` array.

Every quantity has one entry per candidate, or is one float that holds for all of them; NumPy
broadcasting makes both the same code. Nothing here loops over candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Num: TypeAlias = float | NDArray[Any]
Bool: TypeAlias = bool | NDArray[np.bool_]
Record = TypeVar("Record")


def stack_columns(records: Sequence[Record]) -> Record:
    """Turn N records of floats into one record of `[N]` float64 columns, by field name.

    Strings and flags become object and boolean arrays; a nested record is stacked in turn.
    """
    first: Any = records[0]
    columns = {
        f.name: _column([getattr(record, f.name) for record in records]) for f in fields(first)
    }
    return type(first)(**columns)  # type: ignore[no-any-return]


def _column(values: list[Any]) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], bool | int | float):
        kind = bool if isinstance(values[0], bool) else float
        return np.array(values, dtype=kind)
    return stack_columns(values)


def present(column: Num | Bool) -> bool:
    """True when any candidate has a non-zero entry: absent machinery costs nothing to price."""
    return bool(column.any() if isinstance(column, np.ndarray) else column)
