"""Files in and out: JSON with a schema version, JSON lines, and TOML with its keys checked.

Every file crore writes appears whole or not at all; every file it cannot read is one `InputError`.
"""

from __future__ import annotations

import json
import os
import secrets
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from crore import __version__
from crore.errors import InputError, UnknownName, nearest

Record = dict[str, Any]
"""One JSON object."""


def dump_json(kind: str, version: int, record: Mapping[str, Any]) -> str:
    """Return `record` as JSON text, headed by its schema (`crore.plan/1`) and crore's version."""
    document = {"schema": f"crore.{kind}/{version}", "crore": __version__, **record}
    return json.dumps(document, indent=2, default=_plain, allow_nan=False, ensure_ascii=False)


def write_json(path: Path, kind: str, version: int, record: Mapping[str, Any]) -> None:
    """Write `record` to `path` as `dump_json` gives it."""
    write_text(path, dump_json(kind, version, record) + "\n")


def read_json(path: Path, kind: str, version: int) -> Record:
    """Read what `write_json` wrote; raises `InputError` for another kind or a newer version."""
    record = parse_object(read_text(path), str(path))
    schema = str(record.get("schema", "none"))
    found_kind, _, found_version = schema.removeprefix("crore.").partition("/")
    if found_kind != kind:
        raise InputError(f"{_name(path)} must hold schema crore.{kind}, not {schema[:40]}")
    if not found_version.isdecimal() or int(found_version) > version:
        raise InputError(
            f"{_name(path)} has schema {schema[:40]}; crore {__version__} reads versions up to "
            f"{version}: install a newer crore"
        )
    return record


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line."""
    lines = (json.dumps(r, default=_plain, allow_nan=False, ensure_ascii=False) for r in records)
    write_text(path, "".join(line + "\n" for line in lines))


def read_jsonl(path: Path) -> list[Record]:
    """Read one JSON object per line, blank lines skipped; an error names the line."""
    return [parse_object(text, f"{path}:{number}") for number, text in numbered_lines(path)]


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, each with its number from 1."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def read_toml(path: Path) -> Record:
    """Read a TOML file; an error names the file and the line."""
    try:
        return tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:  # bad TOML; an integer too long; nested too deep
        raise InputError(f"{_name(path)} is not valid TOML: {_first_line(error)}") from error


def check_keys(
    table: Mapping[str, Any], valid: Collection[str], where: str, required: Collection[str] = ()
) -> None:
    """Raise `UnknownName` for a key outside `valid`, `InputError` for a `required` one missing.

    `where` names the file and table for the message. Nothing is ever ignored quietly.
    """
    for key in table:
        if key not in valid:
            raise UnknownName(f"key in {_shorten(where)}", key, valid)
    missing = [key for key in required if key not in table]
    if missing:
        raise InputError(f"{_shorten(where)} lacks {', '.join(missing)[:120]}")


def read_text(path: Path) -> str:
    """Read a UTF-8 file, with or without a byte-order mark.

    Raises `InputError` when it is missing, a folder or not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{_name(path)} is not UTF-8 text (byte {error.start})") from error
    except FileNotFoundError as error:
        raise InputError(f"no file {_name(path)}{_siblings(path)}") from error
    except OSError as error:
        raise InputError(f"cannot read {_name(path)}: {error.strerror}") from error


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; False for what no file system can name."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long; a null byte
        return False


def keep_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raise `InputError` when writing `output` would replace a file of `inputs`, however named."""
    for path in inputs:
        if exists(output) and exists(path) and output.is_file() and output.samefile(path):
            raise InputError(f"{_name(output)} is read here and would be lost: write elsewhere")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file so that a reader sees the old file or the new one, never half of it.

    The text goes to a new file in the same folder, reaches the disk, and takes the name. A pipe
    or device (`/dev/stdout`) is written straight. Raises `InputError` when the folder is missing
    or closed to us.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_text(text, encoding="utf-8")
        else:
            _replace(path.resolve(), text)
    except OSError as error:
        raise InputError(f"cannot write {_name(path)}: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    """Write beside `path`, then rename over it."""
    draft = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def parse_object(text: str, where: str) -> Record:
    """Parse one JSON object; raises `InputError` naming `where` it stands.

    NaN and Infinity are no JSON and are refused.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{_shorten(where)} is not valid JSON: {_first_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{_shorten(where)} must hold a JSON object, not {type(value).__name__}")
    return value


def _plain(value: object) -> object:
    """Turn what JSON lacks into what it has: NumPy values, paths and sets."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _siblings(path: Path) -> str:
    """Return a hint naming the files in the same folder that look like `path`."""
    folder = path.parent
    names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    near = nearest(path.name, names)
    return f"; did you mean {', '.join(name[:40] for name in near)}?" if near else ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


def _name(path: Path) -> str:
    return _shorten(str(path))


def _shorten(where: str) -> str:
    """Keep the end of a long path, which is the part that tells files apart."""
    return where if len(where) <= 80 else f"…{where[-79:]}"


def cache_folder() -> Path:
    """Return crore's folder under `$XDG_CACHE_HOME`, or under `~/.cache`.

    A relative path in that variable is ignored, as the XDG specification has it.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "crore"
