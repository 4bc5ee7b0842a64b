"""Mission files: one question in TOML, shipped with the package or written by the user."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from crore.catalog.load import shipped
from crore.errors import InputError
from crore.io import exists, read_text, read_toml
from crore.plan.schema import Problem, read_record


def mission_names() -> tuple[str, ...]:
    """Return the names of the shipped missions."""
    folder = files("crore") / "missions"
    names = (item.name for item in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def read_mission(name: str) -> dict[str, Any] | None:
    """Return a mission as keyword arguments of `PlanRequest`; None when `name` is no mission.

    A mission file is a `.toml` path, or an existing file that is neither a model's name nor JSON.
    Raises InputError for a file that cannot be read or parsed, or breaks the schema, with the line.
    """
    path = mission_path(name)
    if path is None:
        return None
    fields, problems = read_file(path)
    if problems:
        more = len(problems) - 1
        tail = f" (and {more} more: crore check {name[:60]})" if more else ""
        raise InputError(f"{said(path.name, problems[0])}{tail}")
    return fields


def read_file(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Return a mission file's arguments and all its problems; InputError when it is no TOML."""
    return read_record(read_toml(path), read_text(path))


def said(file: str, problem: Problem) -> str:
    """Return a problem as one reads it: file, line, key, what is wrong and what to do."""
    line = f" line {problem.line}" if problem.line else ""
    key = "" if problem.key in problem.text else f"{problem.key}: "
    return f"{file[:60]}{line}: {key}{problem.text}"


def mission_path(name: str) -> Path | None:
    """Return the file of a mission's name or path; None when `name` is no mission."""
    if name.strip() in mission_names():
        return Path(str(files("crore") / "missions" / f"{name.strip()}.toml"))
    path = Path(name)
    if name.endswith(".toml"):
        return path
    is_model = name.endswith(".json") or shipped("models").find(name)
    return path if not is_model and exists(path) and not path.is_dir() else None
