"""A record as one line of JSON, and back with every key and type checked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, ClassVar, Final, Literal, Union, get_args, get_origin, get_type_hints

from crore import __version__
from crore.errors import InputError, shown
from crore.io import check_keys, parse_object
from crore.train.records import Eval, Prediction, Record, Start, Step

SCHEMA_VERSION: Final = 1
"""Of crore.run; each start record names it."""
KINDS: Final[Mapping[str, type[Any]]] = {made.kind: made for made in get_args(Record)}
MEASURED: Final = (Step, Eval)
"""Records whose numbers may be NaN or infinite, which JSON has not."""
_HINTS: Final[Mapping[type[Any], Mapping[str, Any]]] = {
    made: {k: v for k, v in get_type_hints(made).items() if get_origin(v) is not ClassVar}
    for made in (*KINDS.values(), Prediction)
}
"""Record -> field -> its type."""
_WORDS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def line_of(record: Record) -> str:
    """Return a record as one line of JSON with its newline.

    A NaN or an infinity of a step or an evaluation is null, and `not_finite` says which it was.
    """
    body = {item.name: getattr(record, item.name) for item in fields(record)}
    if isinstance(record, Start):
        schema = f"crore.run/{SCHEMA_VERSION}"
        body = {"schema": schema, "crore": __version__, "kind": record.kind, **asdict(record)}
    elif isinstance(record, MEASURED):
        odd = {k: str(v) for k, v in body.items() if isinstance(v, float) and not math.isfinite(v)}
        body |= {**dict.fromkeys(odd), "not_finite": odd}
    body = {"kind": record.kind, **body}
    return json.dumps(body, allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n"


def record_of(text: str, where: str) -> Record:
    """Return the record that a line holds; raises `InputError` naming `where` for any other."""
    body = parse_object(text, where)
    made = KINDS.get(str(body.pop("kind", "none")))
    if made is None:
        raise InputError(f"{where}: kind must be one of {', '.join(KINDS)}")
    if made is Start:
        _check_head(body, where)
    odd = body.pop("not_finite", None) if made in MEASURED else {}
    check_keys(body, _HINTS[made], where, _HINTS[made])
    if not isinstance(odd, dict):
        raise InputError(f"{where} lacks not_finite")
    record: Record = _built(made, {**body, **_not_finite(odd, body, where)}, where)
    return record


def _check_head(body: dict[str, Any], where: str) -> None:
    """Take schema and version off a start record; a newer schema is refused."""
    schema, written_by = str(body.pop("schema", "none")), body.pop("crore", None)
    version = schema.removeprefix("crore.run/")
    if not version.isdecimal() or not isinstance(written_by, str):
        raise InputError(f"{where} must hold schema crore.run, not {schema[:40]}")
    if int(version) > SCHEMA_VERSION:
        raise InputError(
            f"{where} has schema {schema[:40]}; crore {__version__} reads versions up to "
            f"{SCHEMA_VERSION}: install a newer crore"
        )


def _not_finite(odd: Mapping[str, Any], body: Mapping[str, Any], where: str) -> dict[str, float]:
    for key, word in odd.items():
        if key not in body or body[key] is not None or word not in _WORDS:
            raise InputError(f"{where}: not_finite.{key[:40]} must be nan, inf or -inf of a null")
    return {key: _WORDS[word] for key, word in odd.items()}


def _built(made: type[Any], body: dict[str, Any], where: str) -> Any:
    """Build a record from values whose types are checked."""
    for key, hint in _HINTS[made].items():
        inner = next((it for it in get_args(hint) if is_dataclass(it)), None)
        if isinstance(inner, type) and isinstance(body[key], dict):
            check_keys(body[key], _HINTS[inner], f"{where} {key}", _HINTS[inner])
            body[key] = _built(inner, body[key], f"{where} {key}")
        elif not _fits(hint, body[key]):
            raise InputError(f"{where}: {key} cannot be {shown(body[key])}")
    return made(**{k: tuple(v) if isinstance(v, list) else v for k, v in body.items()})


def _fits(hint: Any, value: object) -> bool:
    """Return whether a JSON value is of a record's type; a whole number is a float, too."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in get_args(hint))
    if origin is tuple:
        return isinstance(value, list) and all(_fits(get_args(hint)[0], one) for one in value)
    if origin is not None:
        return isinstance(value, dict) and all(_fits(get_args(hint)[1], v) for v in value.values())
    if hint in (int, float):
        return isinstance(value, int if hint is int else (int, float)) and value is not True
    return value is None if hint is NoneType else isinstance(value, hint)
