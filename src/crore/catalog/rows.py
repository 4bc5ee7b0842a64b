"""Rows of a catalogue file: read, inherited, found by name, refused without a source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crore.catalog.types import Provenance
from crore.errors import InputError, UnknownName, nearest

Row = Mapping[str, Any]

PROVENANCE_KEYS = frozenset({"source", "date", "verified", "note", "figures"})
HOUSEKEEPING_KEYS = PROVENANCE_KEYS | {"base", "aliases"}
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
        return self.index.get(name.lower())

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
            if base not in self.rows:
                near = ", ".join(nearest(str(base), self.rows)) or "a key of this table"
                raise InputError(f"{self.kind} {chain[-1]!r}: base {base!r} is no row; try {near}")
            if base in chain:
                raise InputError(f"{self.kind} {key!r}: its base leads back to {base!r}")
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
            raise InputError(f"{kind} {key!r}: a row is a table of figures, not {row!r}"[:240])
        if key.startswith("_"):
            continue
        aliases = row.get("aliases", [])
        if not isinstance(aliases, list | tuple) or not all(isinstance(a, str) for a in aliases):
            raise InputError(f"{kind} {key!r}: aliases is a list of names, not {aliases!r}"[:240])
        for name in (key, *aliases):
            holder = index.setdefault(name.lower(), key)
            if holder != key:
                raise InputError(f"{kind} name {name!r} is claimed by {holder!r} and by {key!r}")
    return Table(kind=kind, listing=listing, rows=rows, index=index)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; InputError when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise InputError(f"cannot read {path}: {err.strerror or err}") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise InputError(f"{path} is not valid TOML: {err}"[:240]) from err


def check_keys(label: str, row: Row, valid: Collection[str]) -> None:
    """Refuse a row with a key that is neither in `valid` nor housekeeping, naming the nearest."""
    allowed = [*valid, *HOUSEKEEPING_KEYS]
    for key in row:
        if key not in allowed:
            raise UnknownName(f"key in {label}", key, allowed)
    figures = row.get("figures", {})
    if not isinstance(figures, Mapping):
        raise InputError(f"{label}: figures is a table of figure = source, not {figures!r}"[:240])
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
        raise InputError(f'{label} has no date: give date = "YYYY" or "YYYY-MM", not {date!r}')
    verified = row.get("verified", False)
    if not isinstance(verified, bool):
        raise InputError(f"{label}: verified is true or false, not {verified!r}")
    return Provenance(
        source=source,
        date=text,
        verified=verified,
        figures={str(k): str(v) for k, v in row.get("figures", {}).items()},
        note=str(row.get("note", "")),
    )


def number(label: str, row: Row, key: str, default: float | None = None) -> float:
    """Return a figure that is a number >= 0; InputError when it is missing and has no default."""
    value = row.get(key, default)
    if value is None:
        raise InputError(f"{label} needs {key}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
        raise InputError(f"{label}: {key} is a number >= 0, not {value!r}"[:240])
    return float(value)


def whole(label: str, row: Row, key: str, default: int | None = None, least: int = 0) -> int:
    """Return a figure that is a whole number >= `least`; InputError otherwise."""
    value = row.get(key, default)
    if value is None:
        raise InputError(f"{label} needs {key}")
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{label}: {key} is a whole number >= {least}, not {value!r}"[:240])
    return value


def flag(label: str, row: Row, key: str, default: bool | None = None) -> bool:
    """Return a figure that is true or false; InputError when it is missing and has no default."""
    value = row.get(key, default)
    if not isinstance(value, bool):
        raise InputError(f"{label}: {key} is true or false, not {value!r}"[:240])
    return value


def choice(label: str, row: Row, key: str, valid: Iterable[str]) -> str:
    """Return a figure that is one of `valid`; InputError otherwise."""
    value = row.get(key)
    options = list(valid)
    if value not in options:
        raise InputError(f"{label}: {key} is one of {', '.join(options)}, not {value!r}"[:240])
    return str(value)


def words(label: str, row: Row, key: str, default: str | None = None) -> str:
    """Return a figure that is text; InputError when it is missing and has no default."""
    value = row.get(key, default)
    if not isinstance(value, str):
        raise InputError(f"{label}: {key} is text, not {value!r}"[:240])
    return value
