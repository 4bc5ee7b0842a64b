"""Rows of a catalogue file: read, inherited, found by name, refused without a source."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crore.catalog.types import Provenance
from crore.errors import InputError, UnknownName, nearest, shown

Row = Mapping[str, Any]

PROVENANCE_KEYS = frozenset({"source", "date", "verified", "note", "figures"})
HOUSEKEEPING_KEYS = PROVENANCE_KEYS | {"base", "aliases"}
MAX_WHOLE = 10**15
_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one kind, with the names that find them."""

    kind: str
    """What a row is, in messages: "model", "GPU", "fabric", "cluster"."""
    listing: str
    """The command that lists the valid names."""
    rows: Mapping[str, Row]
    """Rows as written, before inheritance; a key that begins with `_` is only a base for others."""
    index: Mapping[str, str]
    """Lower-cased key or alias -> key."""

    def find(self, name: str) -> str | None:
        """Return the key that `name` (a key or an alias, in any case) stands for."""
        return self.index.get(name.strip().lower())

    def key(self, name: str) -> str:
        """Return the key that `name` stands for; UnknownName when there is none."""
        found = self.find(name)
        if found is None:
            raise UnknownName(self.kind, name, self.names(), listing=self.listing)
        return found

    def keys(self) -> tuple[str, ...]:
        """Return the keys of the rows, in file order, bases left out."""
        return tuple(key for key in self.rows if not key.startswith("_"))

    def names(self) -> list[str]:
        """Return keys and short aliases: what a message may suggest."""
        aliases = [a for row in self.rows.values() for a in row.get("aliases", ()) if "/" not in a]
        return [*self.keys(), *aliases]

    def aliases(self, key: str) -> tuple[str, ...]:
        """Return the other names of row `key`."""
        return tuple(self.rows[key].get("aliases", ()))

    def merged(self, key: str) -> dict[str, Any]:
        """Return row `key` with everything it inherits through `base`; aliases are not inherited.

        InputError when a base is missing or the chain comes back to its start.
        """
        chain = [key]
        while base := self.rows[chain[-1]].get("base"):
            if not isinstance(base, str) or base not in self.rows:
                near = ", ".join(nearest(str(base), self.rows)) or "a key of this table"
                raise InputError(
                    f"{self.kind} {shown(chain[-1])}: base {shown(base)} is no row; try {near}"
                )
            if base in chain:
                raise InputError(f"{self.kind} {shown(key)}: its base leads back to {shown(base)}")
            chain.append(base)
        row: dict[str, Any] = {}
        for link in reversed(chain):
            row.update(self.rows[link])
        for name in ("base", "aliases"):
            row.pop(name, None)
        return row


def make_table(kind: str, listing: str, rows: Mapping[str, Row]) -> Table:
    """Return a table of `rows`; InputError when two rows claim one name."""
    index: dict[str, str] = {}
    for key, row in rows.items():
        if not isinstance(row, Mapping):
            raise InputError(f"{kind} {shown(key)}: a row is a table of figures, not {shown(row)}")
        if key.startswith("_"):
            continue
        aliases = row.get("aliases", [])
        if not isinstance(aliases, list | tuple) or not all(isinstance(a, str) for a in aliases):
            raise InputError(
                f"{kind} {shown(key)}: aliases is a list of names, not {shown(aliases)}"
            )
        for name in (key, *aliases):
            holder = index.setdefault(name.lower(), key)
            if holder != key:
                raise InputError(
                    f"{kind} name {shown(name)} is claimed by {shown(holder)} and by {shown(key)}"
                )
    return Table(kind=kind, listing=listing, rows=rows, index=index)


def check_keys(label: str, row: Row, valid: Collection[str]) -> None:
    """Refuse a row with a key that is neither in `valid` nor housekeeping, naming the nearest."""
    allowed = [*valid, *HOUSEKEEPING_KEYS]
    for key in row:
        if key not in allowed:
            raise UnknownName(f"key in {label}", key, allowed)
    figures = row.get("figures", {})
    if not isinstance(figures, Mapping):
        raise InputError(f"{label}: figures is a table of figure = source, not {shown(figures)}")
    for figure in figures:
        if figure not in valid:
            raise UnknownName(f"figure in {label}", figure, valid)


def read_provenance(label: str, row: Row) -> Provenance:
    """Return where a row's figures come from; InputError when it has no source or no date."""
    source = row.get("source")
    if not isinstance(source, str) or not source.strip():
        raise InputError(f'{label} has no source: say who published it (source = "...")')
    date = row.get("date")
    # Bare TOML years and days are as good as quoted ones.
    text = date if isinstance(date, str) else "" if date is None else str(date)
    if not _DATE.fullmatch(text):
        raise InputError(f'{label} has no date: give date = "YYYY" or "YYYY-MM", not {shown(date)}')
    verified = row.get("verified", False)
    if not isinstance(verified, bool):
        raise InputError(f"{label}: verified is true or false, not {shown(verified)}")
    return Provenance(
        source=source,
        date=text,
        verified=verified,
        figures={str(k): str(v) for k, v in row.get("figures", {}).items()},
        note=str(row.get("note", "")),
    )


def number(
    label: str,
    row: Row,
    key: str,
    default: float | None = None,
    *,
    positive: bool = False,
    least: float = 0.0,
) -> float:
    """Return a figure that is a number >= `least`, or > 0 where zero would say that nothing works.

    InputError when it is missing and has no default.
    """
    value = row.get(key, default)
    if value is None:
        raise InputError(f"{label} needs {key}")
    wrong_kind = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong_kind or not least <= value < 1e30 or (positive and value == 0):
        rule = "> 0" if positive else f">= {least:g}"
        raise InputError(f"{label}: {key} is a number {rule}, not {shown(value)}")
    return float(value)


def whole(label: str, row: Row, key: str, default: int | None = None, least: int = 0) -> int:
    """Return a figure that is a whole number from `least` to 1e15; InputError otherwise."""
    value = row.get(key, default)
    if value is None:
        raise InputError(f"{label} needs {key}")
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_WHOLE:
        raise InputError(
            f"{label}: {key} is a whole number from {least} to 1e15, not {shown(value)}"
        )
    return value


def flag(label: str, row: Row, key: str, default: bool | None = None) -> bool:
    """Return a figure that is true or false; InputError when it is missing and has no default."""
    value = row.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{label}: {key} is true or false, not {shown(value)}")
    return value


def choice(label: str, row: Row, key: str, valid: Iterable[str]) -> str:
    """Return a figure that is one of `valid`; InputError otherwise."""
    value = row.get(key)
    options = list(valid)
    if value not in options:
        raise InputError(f"{label}: {key} is one of {', '.join(options)}, not {shown(value)}")
    return str(value)


def words(label: str, row: Row, key: str, default: str | None = None) -> str:
    """Return a figure that is text; InputError when it is missing and has no default."""
    value = row.get(key, default)
    if not isinstance(value, str):
        raise InputError(f"{label}: {key} is text, not {shown(value)}")
    return value
