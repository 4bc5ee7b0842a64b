"""A model cut to a shape that a CPU trains, as a row of a catalogue file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from crore.catalog.types import ModelSpec
from crore.model import build_decoder

_NOT_WRITTEN = ("name", "provenance")


def built_parameters(spec: ModelSpec) -> int:
    """Return the parameters of the whole model as it is built, without memory for them."""
    seq_len = min(spec.max_positions or 128, 128)
    return sum(p.numel() for p in build_decoder(spec, seq_len).parameters())


def catalogue_file(spec: ModelSpec, note: str) -> str:
    """Return a model as a file for `--catalog`; `note` is added to its source."""
    row = {key: value for key, value in asdict(spec).items() if key not in _NOT_WRITTEN}
    source = f"{spec.provenance.source}; {note}"
    row |= {"source": source, "date": spec.provenance.date, "verified": False}
    lines = "\n".join(_lines(row))
    return f'[models."{spec.name}"]\n{lines}\n'


def _lines(row: Mapping[str, Any]) -> Iterator[str]:
    for key, value in row.items():
        if value is not None:
            yield f"{key} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_lines(value)) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"'
    return str(value)
