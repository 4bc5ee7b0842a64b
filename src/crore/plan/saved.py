"""A plan file that `crore plan -o` wrote, read back as the request that made it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crore.errors import InputError, shown
from crore.io import check_keys, parse_object, read_json, read_text
from crore.plan.record import SCHEMA_VERSION
from crore.plan.request import Limits, PlanRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What a plan file says that planning again needs, or can be held against."""

    request: PlanRequest
    days: float
    """As planned then."""
    crore: str
    """The version that planned it."""


def read_saved(path: Path) -> Saved | None:
    """Return what a plan file says; None for JSON without a schema, such as a model's config.json.

    Raises InputError for a file that cannot be read, is of another kind or newer, or whose request
    is damaged; UnknownName for a key that a request does not have.
    """
    if "schema" not in parse_object(read_text(path), str(path)):
        return None
    record = read_json(path, "plan", SCHEMA_VERSION)
    check_keys(record, record, str(path), required=("request", "days"))
    request, days = record["request"], record["days"]
    if not isinstance(request, dict) or not isinstance(days, dict):
        raise InputError(f"{path.name[:60]}: request and days must be objects: plan it again")
    check_keys(request, _names(PlanRequest), f"{path.name[:40]}: request", required=("model",))
    if isinstance(limits := request.get("limits"), dict):
        check_keys(limits, _names(Limits), f"{path.name[:40]}: limits")
    return Saved(
        request=_request(request, path), days=_number(days.get("value"), path),
        crore=str(record.get("crore", "unknown")),
    )  # fmt: skip


def _request(record: dict[str, Any], path: Path) -> PlanRequest:
    from pydantic import TypeAdapter, ValidationError  # slow to import, and rarely needed

    try:
        return TypeAdapter(PlanRequest).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path.name[:60]}: request.{where}: {first['msg']}"[:220]) from error


def _number(value: object, path: Path) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise InputError(f"{path.name[:60]}: days.value must be a number, not {shown(value)}")


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(record))
