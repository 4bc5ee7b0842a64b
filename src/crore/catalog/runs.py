"""Published training runs: JSON lines of what others trained, on what, and how long a step took."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crore.catalog.rows import MAX_WHOLE
from crore.errors import InputError, UnknownName, shown
from crore.io import numbered_lines, parse_object

Json = Any  # what json.loads returns
_RANGES: Mapping[str, tuple[float, float]] = {"step_time_s": (1e-9, 1e12)}
_NODE_NETWORK = re.compile(r"(\d+(?:\.\d+)?) Gb/s per node")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "precision": ("fp32", "tf32", "fp16", "bf16", "fp8", "mxfp8", "nvfp4"),
    "sharding": ("none", "zero1", "zero2", "zero3"),
    "recompute": ("none", "selective", "full"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRun:
    """One training run as its source printed it; None where the source says nothing."""

    id: str
    model: str
    """Key of the model."""
    gpu: str
    """Key of the accelerator."""
    gpus: int
    gpus_per_node: int | None = None
    """GPUs per server or tray."""
    family: str | None = None
    """Data set the run belongs to."""
    source: str | None = None
    year: int | None = None
    precision: str | None = None
    """Format of the linear layers."""
    fp8_recipe: str | None = None
    seq_len: int | None = None
    """Tokens per sequence."""
    global_batch: int | None = None
    """Sequences per optimizer step."""
    micro_batch: int | None = None
    """Sequences per pass per data-parallel rank."""
    tp: int | None = None
    pp: int | None = None
    vpp: int | None = None
    """Virtual pipeline stages per rank."""
    cp: int | None = None
    ep: int | None = None
    etp: int | None = None
    """Expert-tensor parallel size."""
    dp: int | None = None
    sharding: str | None = None
    sharding_group: int | None = None
    """Ranks that share one copy of the sharded states, if fewer than `dp`."""
    sequence_parallel: bool | None = None
    tp_overlap: bool | None = None
    recompute: str | None = None
    recompute_modules: tuple[str, ...] | None = None
    offload: str | None = None
    grad_accum_dtype: str | None = None
    mtp: bool | None = None
    """The multi-token-prediction layer was trained."""
    software: str | None = None
    trained: str | None = None
    """pretrain, sft or lora."""
    step_time_s: float | None = None
    """Measured seconds per optimizer step."""
    derived: bool | None = None
    """The step time was computed from printed tokens/s or TFLOP/s."""
    memory_bytes_per_gpu: float | None = None
    """Measured peak on the fullest GPU."""
    memory_kind: str | None = None
    """allocated, reserved or device."""
    quality: str | None = None
    verified: bool | None = None
    scorable: bool | None = None
    reason: str | None = None
    """Why the run is not scorable."""
    notes: str | None = None
    network_gbit_per_node: float | None = None
    """Scale-out bandwidth of one server, Gbit/s, where the notes state it."""


_MEASURED = ("step_time_s", "derived", "memory_bytes_per_gpu", "memory_kind")
_TYPES: Mapping[str, str] = {
    f.name: str(f.type).removesuffix(" | None") for f in fields(PublishedRun)
}
_TOP = {**_TYPES, "measured": "dict"}
for _name in (*_MEASURED, "network_gbit_per_node"):
    del _TOP[_name]
_NESTED = {name: _TYPES[name] for name in _MEASURED}


def read_runs(path: Path) -> list[PublishedRun]:
    """Return the runs of a JSON-lines file, in order; blank lines are skipped.

    InputError names the line that is not JSON, misses `id`, `model`, `gpu` or `gpus`, or holds a
    value of the wrong kind; UnknownName names the nearest key to one that is not in the schema.
    """
    name = path.name[:60]
    return [_read_line(f"{name} line {n}", line) for n, line in numbered_lines(path)]


def _read_line(where: str, line: str) -> PublishedRun:
    values: dict[str, Any] = {}
    _collect(where, parse_object(line, where), _TOP, values)
    _collect(where, values.pop("measured", {}), _NESTED, values)
    for key in ("id", "model", "gpu", "gpus"):
        if key not in values:
            raise InputError(f"{where}: a run needs {key}")
    for key, valid in _CHOICES.items():
        if values.get(key, valid[0]) not in valid:
            raise InputError(f"{where}: {key} {shown(values[key])} is none of {', '.join(valid)}")
    stated = _NODE_NETWORK.search(values.get("notes", ""))
    if stated:
        network = "network_gbit_per_node"
        values[network] = _checked(where, network, "float", float(stated[1]))
    return PublishedRun(**values)


def _collect(
    where: str, row: Mapping[str, Any], schema: Mapping[str, str], into: dict[str, Any]
) -> None:
    """Move the values of `row` that are not null into `into`, each checked against `schema`."""
    for key, value in row.items():
        kind = schema.get(key)
        if kind is None:
            raise UnknownName(f"key in {where}", key, schema)
        if value is not None:
            into[key] = _checked(where, key, kind, value)


def _checked(where: str, key: str, kind: str, value: Json) -> Json:
    """Return `value` as `kind`, one of the field types of `PublishedRun`; InputError otherwise."""
    if kind == "int" and type(value) is int and 0 < value <= MAX_WHOLE:
        return value
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    least, most = _RANGES.get(key, (1e-9, MAX_WHOLE))
    if kind == "float" and type(value) in (int, float) and least <= value <= most:
        return float(value)
    if kind == "dict" and isinstance(value, dict):
        return value
    if kind == "tuple[str, ...]" and isinstance(value, list):
        return tuple(str(item) for item in value)
    rule = _PLAIN[kind].format(least=least, most=most)
    raise InputError(f"{where}: {key} {shown(value)} is no valid {rule}")


_PLAIN = {
    "int": "whole number from 1 to 1e15",
    "float": "number from {least:g} to {most:g}",
    "str": "text",
    "bool": "true or false",
    "dict": "object",
    "tuple[str, ...]": "list of names",
}
