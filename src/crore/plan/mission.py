"""Mission files: one question in TOML, shipped with the package or written by the user."""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from crore.io import check_keys, read_toml
from crore.plan.request import PlanRequest

KEYS = tuple(f.name for f in fields(PlanRequest) if f.name not in ("fix", "catalog_file"))


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
    check_keys(record, KEYS, path.name, required=("model", "gpu", "gpus"))
    return record
