"""Mission files: one question in TOML, shipped with the package or written by the user."""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from crore.errors import InputError
from crore.io import check_keys, read_toml
from crore.plan.request import PlanRequest

KEYS = tuple(f.name for f in fields(PlanRequest) if f.name not in ("fix", "catalog_file"))
NUMBERS = ("gpus", "tokens", "seq_len", "global_batch", "global_batch_tokens")


def mission_names() -> tuple[str, ...]:
    """Return the names of the shipped missions."""
    folder = files("crore") / "missions"
    names = (item.name for item in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def read_mission(name: str) -> dict[str, Any] | None:
    """Return a mission's keys, None when `name` is neither a shipped mission nor a `.toml` path.

    Raises InputError for a file that cannot be read or parsed, or that lacks a key; UnknownName for
    a key the schema does not have.
    """
    if name.endswith(".toml"):
        path = Path(name)
    elif name in mission_names():
        path = Path(str(files("crore") / "missions" / f"{name}.toml"))
    else:
        return None
    record = read_toml(path)
    check_keys(record, KEYS, path.name, required=("model",))
    for key, value in record.items():
        _check_value(path.name, key, value)
    return record


def _check_value(where: str, key: str, value: object) -> None:
    """Raise InputError for a value of the wrong kind: whole numbers for counts, text for names."""
    if key in NUMBERS:
        if type(value) is not int or value < 1:
            raise InputError(f"{where}: {key} must be a whole number above 0, not {value!r}"[:240])
    elif not isinstance(value, str):
        raise InputError(f"{where}: {key} must be text, not {value!r}"[:240])
