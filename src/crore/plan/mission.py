"""Mission files: one question in TOML, shipped with the package or written by the user."""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from crore.catalog.load import shipped
from crore.errors import InputError, shown
from crore.io import check_keys, exists, read_toml
from crore.plan.request import PlanRequest
from crore.units import parse_count

KEYS = tuple(f.name for f in fields(PlanRequest) if f.name not in ("fix", "catalog_file"))
NUMBERS = ("gpus", "tokens", "seq_len", "global_batch", "global_batch_tokens")
WORDS = ("precision", "stack")
"""Keys whose value is looked up as it is spelt, in lower case."""


def mission_names() -> tuple[str, ...]:
    """Return the names of the shipped missions."""
    folder = files("crore") / "missions"
    names = (item.name for item in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def read_mission(name: str) -> dict[str, Any] | None:
    """Return a mission's keys, None when `name` is neither a shipped mission nor a mission file.

    A mission file is a `.toml` path, or an existing file that is neither a model's name nor JSON.
    Raises InputError for a file that cannot be read or parsed, or that lacks a key; UnknownName for
    a key the schema does not have.
    """
    path = _mission_path(name)
    if path is None:
        return None
    record = read_toml(path)
    where = path.name[:60]
    check_keys(record, KEYS, where, required=("model",))
    return {key: _value(f"{where}: {key}", key, value) for key, value in record.items()}


def _mission_path(name: str) -> Path | None:
    if name.strip() in mission_names():
        return Path(str(files("crore") / "missions" / f"{name.strip()}.toml"))
    path = Path(name)
    if name.endswith(".toml"):
        return path
    is_model = name.endswith(".json") or shipped("models").find(name)
    return path if not is_model and exists(path) and not path.is_dir() else None


def _value(where: str, key: str, value: object) -> int | str:
    """Return a count as a whole number, `16k` too, and a name as text; InputError otherwise."""
    if key in NUMBERS:
        return parse_count(value if isinstance(value, str) else shown(value), where)
    if not isinstance(value, str):
        raise InputError(f"{where} must be text, not {shown(value)}")
    return value.strip().lower() if key in WORDS else value
