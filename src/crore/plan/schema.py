"""The keys of a mission file, table by table: what each takes, and every problem with its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crore.errors import InputError, nearest, shown
from crore.plan.pins import FIX_KEYS, pin_value
from crore.plan.request import Limits
from crore.units import LIMIT_KEYS, limit_value, parse_count

Reader = Callable[[str, Any, str], Any]
"""(key, value, what messages call it) -> the value, checked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong with a mission."""

    key: str
    """`table.key`, or a table's or top-level key's name."""
    text: str
    """What is wrong and what to do."""
    line: int | None = None
    """Line of the file, from 1; None for what the file does not hold."""
    sound: bool = False
    """The mission is sound, but nothing satisfies it."""


def _number(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def _text(_key: str, value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} must be text in quotes, not {shown(value)}")
    return value.strip()


def _word(key: str, value: Any, name: str) -> str:
    return _text(key, value, name).lower()


def _count(_key: str, value: Any, name: str) -> int:
    return parse_count(_number(value), name)


def _limit(key: str, value: Any, name: str) -> dict[str, float | int]:
    return limit_value(key, _number(value), name)


def _pin(key: str, value: Any, name: str) -> int | str:
    return pin_value(key, shown(value) if isinstance(value, bool | float) else value, name)


_NAMES: Final = dict.fromkeys(("title", "note", "source", "model"), _text)
_WORDS: Final = dict.fromkeys(("precision", "stack", "objective"), _word)
_DATA: Final = ("tokens", "seq_len", "global_batch", "global_batch_tokens", "stock_tokens")
TABLES: Final[Mapping[str, Mapping[str, Reader]]] = {
    "": {**_NAMES, **_WORDS},
    "data": {**dict.fromkeys(_DATA, _count), "lost_worlds": _word},
    "cluster": {
        **dict.fromkeys(("name", "gpu"), _text),
        "gpus": _count,
        **dict.fromkeys(("fabric", "wan"), _text),
        "sites": _count,
    },
    "money": {"basis": _word},
    "limits": dict.fromkeys(LIMIT_KEYS, _limit),
    "fix": dict.fromkeys(FIX_KEYS, _pin),
}
"""Table -> its keys, "" for the keys above all tables."""


def read_record(record: Mapping[str, Any], text: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return a parsed mission as keyword arguments of `PlanRequest`, and all its problems.

    `text` is what `record` was parsed from. What is wrong is left out of the arguments.
    """
    found: list[Problem] = []
    read: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    top = {k: v for k, v in record.items() if not _is_table(k, v)}
    read[""] = _read_table("", top, found)
    for name, table in ((k, v) for k, v in record.items() if k not in top):
        if not name or name not in TABLES:
            tables = [f"[{known}]" for known in TABLES if known]
            found.append(Problem(key=name, text=_unknown("table", f"[{name}]", tables)))
        elif not isinstance(table, Mapping):
            found.append(Problem(key=name, text=f"write [{name}] above its keys"))
        else:
            read[name] = _read_table(name, table, found)
    found += _between_keys(record, read)
    return _arguments(read), in_order(found, text)


def _is_table(key: str, value: Any) -> bool:
    named = key != "" and key in TABLES
    return named or (isinstance(value, Mapping) and key not in TABLES[""])


def _read_table(name: str, table: Mapping[str, Any], found: list[Problem]) -> dict[str, Any]:
    """Return the values of a table that are right; add what is wrong to `found`."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        called = dotted(name, key)
        if key not in TABLES[name]:
            found.append(Problem(key=called, text=_unknown_key(name, key)))
            continue
        try:
            values[key] = TABLES[name][key](key, value, called)
        except InputError as error:
            found.append(Problem(key=called, text=str(error)))
    return values


def _between_keys(
    record: Mapping[str, Any], read: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    """Yield what is wrong with keys together: one missing, two that say the same."""
    if "model" not in record:
        yield Problem(key="model", text='lacks model: add model = "llama-3.1-8b", for example')
    if {"global_batch", "global_batch_tokens"} <= read["data"].keys():
        text = "data.global_batch and data.global_batch_tokens say the same: keep one"
        yield Problem(key="data.global_batch", text=text)


def _arguments(read: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Lay the tables together as `PlanRequest` names things."""
    cluster = dict(read["cluster"])
    if "name" in cluster:
        cluster["cluster"] = cluster.pop("name")
    fields = {**read[""], **read["data"], **cluster, **read["money"]}
    if read["limits"]:
        limits: dict[str, Any] = {}
        for value in read["limits"].values():
            limits |= value
        fields["limits"] = Limits(**limits)
    if read["fix"]:
        fields["fix"] = dict(read["fix"])
    return fields


def _unknown_key(table: str, key: str) -> str:
    """Say that a key is unknown, in which table it would be known, or what is spelt alike."""
    homes = [f"[{name}]" if name else "the top" for name, keys in TABLES.items() if key in keys]
    where = f" in [{table}]" if table else " above the tables"
    if homes:
        return f"unknown key {shown(key)}{where}: it belongs in {' or '.join(homes)}"
    return _unknown("key", key, [*TABLES[table]], where)


def _unknown(kind: str, name: str, valid: list[str], where: str = "") -> str:
    near = nearest(name, valid)
    hint = f"did you mean {', '.join(near)}?" if near else f"one of: {', '.join(valid)}"
    return f"unknown {kind} {shown(name)}{where}; {hint}"


def dotted(table: str, key: str) -> str:
    """Return what messages call a key of a table."""
    return f"{table}.{key}" if table else key


def in_order(problems: Iterable[Problem], text: str) -> list[Problem]:
    """Return problems with the line of their key, or of its table, in the order of the file."""
    lines = key_lines(text)
    placed = (
        replace(it, line=lines.get(it.key, lines.get(it.key.partition(".")[0]))) for it in problems
    )
    return sorted(placed, key=lambda it: it.line or 0)


_HEADER: Final = re.compile(r"\s*\[+\s*([^\]\[]+?)\s*\]")
_KEY: Final = re.compile(r"\s*([\w.\"' -]+?)\s*=")


def key_lines(text: str) -> dict[str, int]:
    """Return the line of each key of a TOML text as `table.key`, and of each table's header."""
    lines: dict[str, int] = {}
    table, quote = "", ""
    for number, line in enumerate(text.splitlines(), start=1):
        if quote:
            quote = "" if quote in line else quote
            continue
        quote = next((q for q in ('"""', "'''") if line.count(q) % 2), "")
        if header := _HEADER.match(line):
            table = _bare(header[1])
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(dotted(table, _bare(key[1])), number)
    return lines


def _bare(name: str) -> str:
    return ".".join(part.strip(" \"'") for part in name.split("."))
