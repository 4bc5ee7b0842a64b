"""Software stacks as columns: traits from the catalogue, one code that selects fitted speeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Final

from crore.catalog.load import DATA
from crore.cost.arrays import Num
from crore.errors import UnknownName
from crore.io import read_toml

FITTED: Final = ("megatron-2021", "megatron-2025", "fsdp", "xla")
"""Stacks with speeds of their own, in the order of the fitted columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Traits of a training stack; every field a float or `[N]`."""

    code: Num
    """Index into FITTED."""
    flash: Num
    """1 for a flash-attention kernel, 0 for products and a softmax over the whole matrix."""
    flash_native: Num
    """1 where the kernel uses the asynchronous matrix units of Hopper and later."""
    tp_overlap: Num
    dp_overlap: Num
    p2p_overlap: Num
    """1 where a rank computes while what it sent to the next stage travels, 0 where it waits."""
    launch_blocking: Num
    """1 where the host waits for every kernel, so that host and device time add up."""
    p2p_scatter: Num
    """1 where tensor-parallel ranks each send their part of a stage boundary's activation."""
    accumulate_bytes: Num
    """Bytes moved per weight and micro-batch to add a gradient to its buffer, at 4-byte buffers."""
    dropout: Num
    narrow_saves: Num
    """1 where 8-bit linear layers keep their inputs in 8 bits for the backward pass."""
    weight_bytes: Num
    grad_bytes: Num
    reduce_bytes: Num
    """Bytes per element of a gradient message."""
    optimizer_bytes: Num
    fused_cross_entropy: Num
    selective_kept: Num
    """Share of element-wise saved bytes that selective recompute keeps, where it works operation by
    operation (torch-native 0.5, XLA 0.15); 1 where it redoes the attention core alone."""
    gradient_copy_bytes: Num
    """Bytes per parameter of a flattened gradient copy beside the buffers (DeepSpeed ZeRO-1)."""
    keeps_outputs: Num
    """1 where a pipeline rank also holds its output for each micro-batch in flight."""
    eager: Num
    """1 where every operation is a kernel of its own unless a compiler fuses them (on GPUs)."""
    expert_tp: Num
    """1 where experts are tensor parallel like the rest unless told otherwise."""


_NUMBERS: Final = (
    "tp_overlap", "dp_overlap", "p2p_overlap", "launch_blocking", "p2p_scatter",
    "accumulate_bytes", "dropout", "weight_bytes", "grad_bytes", "reduce_bytes",
    "optimizer_bytes", "fused_cross_entropy", "selective_kept", "gradient_copy_bytes",
    "keeps_outputs", "eager",
)  # fmt: skip
"""Traits that the data file names as the record does."""


@cache
def stack_rows() -> Mapping[str, Mapping[str, Any]]:
    """Return the shipped rows by name."""
    return read_toml(DATA / "stacks.toml")


def _row_of(name: str) -> Mapping[str, Any]:
    rows = stack_rows()
    if name not in rows:
        raise UnknownName("stack", name, rows)
    return rows[name]


def stack_of(name: str) -> Stack:
    """Return a stack's traits as plain floats.

    Raises UnknownName for a name the catalogue does not hold.
    """
    row = _row_of(name)
    attention = row["attention"]
    return Stack(
        code=float(FITTED.index(row.get("speeds_of", name))),
        flash=float(attention != "unfused"),
        flash_native=float(attention == "flash-3"),
        narrow_saves=float(row["cores"] == "megatron"),
        expert_tp=float(row["expert_tp_default"]),
        **{key: float(row[key]) for key in _NUMBERS},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Abilities:
    """What a plan for a stack may use; facts of its code, as the catalogue lists them."""

    title: str
    schedules: tuple[str, ...]
    zero: tuple[int, ...]
    """ZeRO stages it can run."""
    axes: tuple[str, ...]
    """Parallel axes beside data parallelism, among tp, pp, cp, ep."""
    offload: tuple[str, ...]
    """What it can keep in host memory: optimizer, activations."""
    recovery: tuple[str, ...]
    """How it survives a failure: disk, peer, quorum, islands."""
    rules: tuple[str, ...]
    """What its code cannot run, beside the arithmetic that binds every stack: words of
    `plan.stack_rules`."""
    source: str


def abilities_of(name: str) -> Abilities:
    """Return what a stack can execute; UnknownName for a name the catalogue does not hold."""
    row = _row_of(name)
    lists = {f.name: tuple(row[f.name]) for f in fields(Abilities) if f.name not in _TEXT}
    return Abilities(title=row["title"], source=row["source"], **lists)


_TEXT: Final = ("title", "source")
_PATTERNS: Final = (
    ("torchtitan", r"torchtitan"),
    ("xla", r"maxtext|pax|\bjax\b|\bxla\b|t5x|alpa\b|levanter"),
    ("fsdp", r"fsdp|foundry|composer|pytorch|lightning|accelerate|llama-factory|axolotl|nanotron"),
    ("nemo", r"\bnemo\b|megatron-bridge"),
    ("megatron-2025", r"transformer ?engine|mcore|megatron-core"),
    ("bigscience-2022", r"megatron-deepspeed 2022|bigscience"),
    ("megatron-deepspeed", r"deepspeed|gpt-neox"),
    ("megatron-2021", r"megatron-lm (2019|202[0-2])"),
)
FLASH_YEAR: Final = 2023
"""Flash attention reached the Megatron line in 2023 (NVIDIA/Megatron-LM v3.0)."""
_NO_OVERLAP: Final = re.compile(r"no (communication|comm\.?) overlap")


def overlaps_messages(software: str) -> bool:
    """False when a run's software line says that communication is not overlapped."""
    return not _NO_OVERLAP.search(software.lower())


def without_overlap(stack: Stack) -> Stack:
    """Return the stack with every overlap switched off."""
    return replace(stack, tp_overlap=0.0, dp_overlap=0.0, p2p_overlap=0.0)


def stack_for_software(software: str, year: int | None = None) -> str:
    """Name the stack that a run's free-text software line describes; megatron-2025 if none fits."""
    text = software.lower()
    for name, pattern in _PATTERNS:
        if re.search(pattern, text):
            return name
    return "megatron-2021" if year and year < FLASH_YEAR else "megatron-2025"
