"""A plan file that `crore plan -o` wrote, read back as the request that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from crore.errors import InputError, shown
from crore.io import check_keys, parse_object, read_json, read_text
from crore.plan.record import SCHEMA_VERSION
from crore.plan.request import Limits, PlanRequest

Request = TypeVar("Request")


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
    days = record["days"]
    if not isinstance(days, Mapping):
        raise InputError(f"{path.name[:60]}: days must be an object: plan it again")
    return Saved(
        request=request_from(record["request"], path.name[:40]),
        days=_number(days.get("value"), path), crore=str(record.get("crore", "unknown")),
    )  # fmt: skip


def request_from(record: object, where: str) -> PlanRequest:
    """Return the request that a plan of the file `where` carries.

    Raises InputError when it is none, UnknownName for a key that a request does not have.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"{where}: the plan's request must be an object, not {shown(record)}")
    check_keys(record, _names(PlanRequest), f"{where}: request", required=("model",))
    if isinstance(limits := record.get("limits"), Mapping):
        check_keys(limits, _names(Limits), f"{where}: limits")
    return typed(PlanRequest, record, where)


def typed(kind: type[Request], record: Mapping[str, Any], where: str) -> Request:
    """Return the request that a file carries as `kind`; InputError for a value of another type."""
    from pydantic import TypeAdapter, ValidationError  # slow to import, and rarely needed

    try:
        return TypeAdapter(kind).validate_python(dict(record))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: request.{place[:60]}: {first['msg'][:100]}") from error


def _number(value: object, path: Path) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise InputError(f"{path.name[:60]}: days.value must be a number, not {shown(value)}")


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(record))
