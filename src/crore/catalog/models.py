"""Model rows: from figures as written to a checked `ModelSpec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from crore.catalog.rows import (
    Row,
    check_keys,
    choice,
    flag,
    number,
    read_provenance,
    whole,
    words,
)
from crore.catalog.types import MLA, DeltaNet, Mamba, ModelSpec, Norm, Position, Router
from crore.errors import InputError, UnknownName, shown

MODEL_KEYS = tuple(f.name for f in fields(ModelSpec) if f.name not in ("name", "provenance"))
_PARTS: Mapping[str, type[Any]] = {"mla": MLA, "mamba": Mamba, "deltanet": DeltaNet}
_REQUIRED_FLAGS = ("gated_mlp", "tied_embeddings", "bias")
_OPTIONAL_FLAGS = ("qkv_bias", "qk_norm", "parallel_block", "attention_gate")
_COUNTS = (
    "max_positions",
    "experts",
    "topk",
    "moe_ffn",
    "shared_ffn",
    "first_dense",
    "window",
    "global_every",
    "mtp_layers",
)
_STRIDES = ("moe_every", "window_every", "attention_every")


def build_model(name: str, row: Row) -> ModelSpec:
    """Return the model a row describes.

    `kv_heads` defaults to `heads` (plain multi-head attention), `head_dim` to `hidden / heads`
    (with latent attention: to the value head size) and `ffn` to 0 (no dense feed-forward).
    InputError when a figure is missing, misspelt or contradicts another.
    """
    label = f"model {shown(name)}"
    check_keys(label, row, MODEL_KEYS)
    provenance = read_provenance(label, row)
    heads = whole(label, row, "heads", least=1)
    figures: dict[str, Any] = {
        "layers": whole(label, row, "layers", least=1),
        "hidden": whole(label, row, "hidden", least=1),
        "heads": heads,
        "kv_heads": whole(label, row, "kv_heads", heads, least=1),
        "ffn": whole(label, row, "ffn", 0),
        "vocab": whole(label, row, "vocab", least=1),
        "position": choice(label, row, "position", get_args(Position)),
        "norm": choice(label, row, "norm", get_args(Norm)),
        "pattern": words(label, row, "pattern", ""),
        "router": choice(label, {"router": "sigmoid", **row}, "router", get_args(Router)),
        "norm_epsilon": number(label, row, "norm_epsilon", 1e-5),
        "rope_base": number(label, row, "rope_base", 10_000.0),
        **{key: flag(label, row, key) for key in _REQUIRED_FLAGS},
        **{key: flag(label, row, key, default=False) for key in _OPTIONAL_FLAGS},
        **{key: whole(label, row, key, 0) for key in _COUNTS},
        **{key: whole(label, row, key, 1, least=1) for key in _STRIDES},
        **{key: _part(label, row, key) for key in _PARTS},
    }
    figures["head_dim"] = _head_dim(label, row, heads, figures["mla"])
    spec = ModelSpec(name=name, provenance=provenance, **figures)
    check_model(label, spec)
    return spec


def check_model(label: str, spec: ModelSpec) -> None:
    """Refuse a shape that contradicts itself, with the rule and the numbers."""
    rules: tuple[tuple[bool, str], ...] = (
        (spec.heads % spec.kv_heads == 0, f"heads {spec.heads} % kv_heads {spec.kv_heads} != 0"),
        (
            (spec.position == "learned") == (spec.max_positions > 0),
            f"max_positions {spec.max_positions} and position {spec.position!r} disagree",
        ),
        (
            spec.topk <= spec.experts and (spec.experts == 0) == (spec.topk == 0),
            f"topk {spec.topk} of {spec.experts} experts",
        ),
        (
            (spec.experts == 0) == (spec.moe_ffn == 0),
            f"{spec.experts} experts of width moe_ffn {spec.moe_ffn}",
        ),
        (spec.first_dense <= spec.layers, f"first_dense {spec.first_dense} > {spec.layers} layers"),
        (
            spec.ffn > 0 or spec.experts > 0,
            "no feed-forward: give ffn, or experts with topk and moe_ffn",
        ),
        (spec.attention_every == 1 or spec.deltanet is not None, "attention_every needs deltanet"),
        (spec.window > 0 or spec.global_every == 0, "global_every needs a window"),
    )
    for holds, message in (*rules, *_pattern_rules(spec)):
        if not holds:
            raise InputError(f"{label}: {message}")


def _pattern_rules(spec: ModelSpec) -> tuple[tuple[bool, str], ...]:
    if not spec.pattern:
        return ()
    symbols = set(spec.pattern)
    return (
        (symbols <= set("M*-E"), f"pattern holds {''.join(sorted(symbols))!r}; allowed: M * - E"),
        (len(spec.pattern) == spec.layers, f"{len(spec.pattern)} symbols, {spec.layers} layers"),
        ("M" not in symbols or spec.mamba is not None, "M in the pattern needs mamba"),
        ("E" not in symbols or spec.experts > 0, "E in the pattern needs experts"),
        ("-" not in symbols or spec.ffn > 0, "- in the pattern needs ffn"),
    )


def _head_dim(label: str, row: Row, heads: int, mla: MLA | None) -> int:
    if "head_dim" in row:
        return whole(label, row, "head_dim", least=1)
    if mla is not None:
        return mla.v
    hidden = whole(label, row, "hidden", least=1)
    if hidden % heads:
        raise InputError(f"{label}: hidden {hidden} is no multiple of heads {heads}; give head_dim")
    return hidden // heads


def _part(label: str, row: Row, key: str) -> MLA | Mamba | DeltaNet | None:
    """Return the nested record under `key`: latent-attention ranks or a mixer's shape."""
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InputError(f"{label}: {key} is a table, not {shown(value)}")
    part = _PARTS[key]
    names = {f.name: f for f in fields(part)}
    for name in value:
        if name not in names:
            raise UnknownName(f"key in {key} of {label}", name, names)
    inside = f"{key} of {label}"
    # Only a convolution width has a default; every other size is a fact about the model.
    default = {"conv": 4}
    sizes = {name: whole(inside, value, name, default.get(name)) for name in names}
    record: MLA | Mamba | DeltaNet = part(**sizes)
    return record
