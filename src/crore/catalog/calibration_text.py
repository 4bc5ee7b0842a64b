"""A calibration as TOML text: what `read_calibration` reads back, value for value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from crore import __version__
from crore.catalog.calibration import KIND, VERSION, Calibration

HEAD = "# What this machine sustains, by crore calibrate; the catalogue reads it as this-machine."


def calibration_text(calibration: Calibration) -> str:
    """Return the file's text; numbers are written so that reading gives the same ones."""
    lines = [HEAD, f'schema = "crore.{KIND}/{VERSION}"', f'crore = "{__version__}"']
    lines += _plain(calibration)
    for setting in calibration.settings:
        lines += ["", "[[setting]]", *_plain(setting), *_tables(setting, "setting")]
    return "\n".join(lines) + "\n"


def _plain(record: Any) -> Iterator[str]:
    """Yield the numbers, words and lists of a record."""
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str | int | float):
            yield f"{field.name} = {_value(value)}"
        elif isinstance(value, tuple) and isinstance(value[0], float):
            yield f"{field.name} = [{', '.join(map(_value, value))}]"
        elif isinstance(value, Mapping) and value and isinstance(next(iter(value.values())), float):
            inside = ", ".join(f"{key} = {_value(it)}" for key, it in value.items())
            yield f"{field.name} = {{ {inside} }}"


def _tables(record: Any, path: str) -> Iterator[str]:
    """Yield the records inside a record, those of mappings by their keys."""
    for field in fields(record):
        value = getattr(record, field.name)
        inside = {field.name: value}
        if isinstance(value, Mapping):
            inside = {f"{field.name}.{key}": each for key, each in value.items()}
        for name, each in inside.items():
            if is_dataclass(each):
                yield from ("", f"[{path}.{name}]", *_plain(each))


def _value(value: str | float) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
