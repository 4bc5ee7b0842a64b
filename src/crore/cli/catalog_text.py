"""Catalogue entries as text: a compact list of many, or a sheet of one with its sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from crore.catalog.types import Accelerator, Cluster, Fabric, ModelSpec, Provenance
from crore.cli.tables import pairs, shorten, table
from crore.cost.shape import active_parameters, parameters, shape_of
from crore.units import format_count, format_int, format_si, format_usd, three_digits

UNKNOWN = "unknown"

# What each unit suffix of a field name looks like; the longest suffix that fits wins.
_SUFFIXES: Mapping[str, Callable[[float], str]] = {
    "_bytes_per_s": lambda value: format_si(value, "B/s"),
    "_latency_s": lambda value: format_si(value, "s"),
    "_flops": lambda value: format_si(value, "FLOP/s"),
    "_bytes": lambda value: f"{format_si(value, 'B')} ({three_digits(value / 2**30)} GiB)",
    "_w": lambda value: format_si(value, "W"),
    "_usd": format_usd,
}
# What a zero says, by record and field; elsewhere it is a number like any other.
_ZERO_MEANS = {
    "Accelerator.sms": UNKNOWN,
    "Accelerator.year": UNKNOWN,
    "Accelerator.tdp_w": UNKNOWN,
    "Accelerator.price_usd": UNKNOWN,
    "Accelerator.domain_bytes_per_s": "none",
    "Accelerator.nic_bytes_per_s": "none",
    "Fabric.radix": "none",
    "Fabric.port_bytes_per_s": "the GPU's own",
    "Fabric.max_endpoints": "no stated limit",
    "Cluster.node_size": "the GPU's own",
    "Cluster.nic_bytes_per_s": "the GPU's own",
}


def listing(kind: str, entries: Sequence[Any]) -> str:
    """Return one line per entry of `kind` and how to see one in full."""
    header, row, left = _LISTS[kind]
    unverified = [e for e in entries if not e.provenance.verified]
    lines = [table(header, [row(entry) for entry in entries], left=left)]
    if unverified:
        lines.append("? quoted second hand, not read in the source")
    example = entries[0].name if entries else "NAME"
    lines.append(f"{len(entries)} {kind}; all figures and sources: crore catalog {kind} {example}")
    return "\n".join(lines)


def sheet(entry: Any, aliases: Sequence[str] = ()) -> str:
    """Return every figure of one entry, then its sources, dates and caveats."""
    names = [f.name for f in fields(entry) if f.name not in {"name", "title", "provenance"}]
    values = {name: getattr(entry, name) for name in names}
    # A model says what it lacks by a zero; in the other records zero has a meaning of its own.
    lacks = [n for n, v in values.items() if isinstance(entry, ModelSpec) and not v]
    zeros = {name: _ZERO_MEANS.get(f"{type(entry).__name__}.{name}") for name in names}
    lines = [
        (name, (not value and zeros[name]) or _show(name, value))
        for name, value in values.items()
        if name not in lacks
    ]
    lines += _counted(entry) if isinstance(entry, ModelSpec) else []
    lines += [("absent", ", ".join(lacks))] if lacks else []
    lines += [("also called", ", ".join(aliases))] if aliases else []
    title = getattr(entry, "title", "")
    heading = f"{entry.name}: {title}" if title and title != entry.name else entry.name
    return "\n".join([heading, pairs([*lines, *_sources(entry.provenance)])])


def record(entry: Any) -> dict[str, Any]:
    """Return an entry as JSON holds it: SI, null for unknown, a model's parameters counted."""
    unknown = {
        f.name: None
        for f in fields(entry)
        if not getattr(entry, f.name)
        and _ZERO_MEANS.get(f"{type(entry).__name__}.{f.name}") == UNKNOWN
    }
    made = asdict(entry) | unknown | (counts(entry) if isinstance(entry, ModelSpec) else {})
    # What calibrate measured stands in its own file, table by table.
    return made | ({"measured": made["measured"] is not None} if "measured" in made else {})


def counts(model: ModelSpec) -> dict[str, int]:
    """Return a model's parameters, all of them and those one token passes through."""
    shape = shape_of(model)
    return {
        "parameters": round(float(parameters(shape))),
        "active_parameters": round(float(active_parameters(shape))),
    }


def _counted(model: ModelSpec) -> list[tuple[str, str]]:
    return [(name, f"{count:,} (counted from the shape)") for name, count in counts(model).items()]


def _sources(provenance: Provenance) -> list[tuple[str, str]]:
    read = "read in the source" if provenance.verified else "quoted second hand"
    lines = [("source", f"{provenance.source} ({provenance.date}; {read})")]
    lines += [(f"  {figure}", source) for figure, source in provenance.figures.items()]
    return lines + ([("note", provenance.note)] if provenance.note else [])


def _show(name: str, value: Any) -> str:
    """Return one figure with its unit; what a row leaves out is shown as such."""
    if value is None or value == "" or value == {}:
        return "none" if value is None else UNKNOWN if value == {} else "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_show(name, item)}" for key, item in value.items())
    if is_dataclass(value):
        return ", ".join(f"{f.name} {getattr(value, f.name)}" for f in fields(value))
    if not isinstance(value, int | float):
        return str(value)
    return _number(name, value)


def _number(name: str, value: float) -> str:
    for suffix, form in _SUFFIXES.items():
        if name.endswith(suffix):
            return form(value)
    if name == "year" or not float(value).is_integer():
        return f"{value:g}"
    return format_int(value)


def _mark(entry: Any) -> str:
    return entry.name if entry.provenance.verified else f"{entry.name} ?"


def _gpu_row(gpu: Accelerator) -> list[str]:
    half = gpu.peak_flops.get("bf16", gpu.peak_flops.get("fp16", 0.0))
    low = max(gpu.peak_flops.get("fp8", 0.0), gpu.peak_flops.get("fp4", 0.0))
    return [
        _mark(gpu),
        str(gpu.year or "-"),
        f"{half / 1e12:,.{0 if half > 1e13 else 2}f}" if half else "-",
        f"{low / 1e12:,.0f}" if low else "-",
        f"{gpu.memory_bytes / 2**30:,.0f}",
        f"{gpu.memory_bytes_per_s / 1e12:.2f}",
        str(gpu.domain_size),
        f"{gpu.domain_bytes_per_s / 1e9:,.0f}" if gpu.domain_bytes_per_s else "-",
        f"{gpu.nic_bytes_per_s * 8 / 1e9:,.0f}" if gpu.nic_bytes_per_s else "-",
        f"{gpu.tdp_w:,.0f}" if gpu.tdp_w else "-",
    ]


def _model_row(model: ModelSpec) -> list[str]:
    experts = f"{model.topk} of {model.experts}" if model.experts else "dense"
    count = counts(model)
    active = format_count(count["active_parameters"]) if model.experts else "all"
    heads = "MLA" if model.mla else f"{model.heads}/{model.kv_heads}"
    width = model.moe_ffn if model.experts else model.ffn
    return [
        _mark(model),
        format_count(count["parameters"]),
        active,
        str(model.layers),
        format_int(model.hidden),
        heads,
        format_int(width),
        experts,
        format_int(model.vocab),
    ]


def _fabric_row(fabric: Fabric) -> list[str]:
    port = fabric.port_bytes_per_s
    return [
        _mark(fabric),
        fabric.topology,
        str(fabric.tiers),
        str(fabric.planes),
        format_int(fabric.radix) if fabric.radix else "-",
        three_digits(fabric.taper),
        three_digits(port * 8 / 1e9) if port else "NIC's",
        format_int(fabric.max_endpoints) if fabric.max_endpoints else "-",
    ]


def _cluster_row(cluster: Cluster) -> list[str]:
    return [
        _mark(cluster),
        cluster.accelerator,
        shorten(cluster.fabric, 30),
        format_int(cluster.gpus),
        str(cluster.sites),
    ]


# Kind -> column heads, how to fill a row, how many columns are flush left.
_LISTS: Mapping[str, tuple[Sequence[str], Callable[[Any], list[str]], int]] = {
    "gpus": (
        ("gpu", "year", "16-bit TF/s", "fp8/4", "GiB", "TB/s", "domain", "GB/s", "NIC Gb/s", "W"),
        _gpu_row,
        1,
    ),
    "models": (
        ("model", "params", "active", "layers", "hidden", "heads/kv", "ffn", "experts", "vocab"),
        _model_row,
        1,
    ),
    "fabrics": (
        ("fabric", "topology", "tiers", "planes", "radix", "taper", "port Gb/s", "endpoints"),
        _fabric_row,
        2,
    ),
    "clusters": (("cluster", "gpu", "fabric", "gpus", "sites"), _cluster_row, 3),
}
