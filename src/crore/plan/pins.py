"""What may be pinned: the keys of `--fix` and of a mission's [fix], and how each value is read."""

from __future__ import annotations

from typing import Final

from crore.errors import InputError, shown
from crore.units import parse_count

FIX_COUNTS: Final = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "etp",
    "dp_replicate",
    "dp_shard",
    "micro_batch",
    "recompute_layers",
    "global_batch",
    "seq_len",
    "islands",
    "worlds",
    "interval",
    "outer_bits",
)
"""Keys that take a whole number of at least one."""
FIX_WORDS: Final = ("schedule", "recompute", "offload", "optimizer", "precision")
"""Keys that take a word; the planner knows the words."""
FIX_KEYS: Final = (*FIX_COUNTS, "zero", *FIX_WORDS)
"""All keys; `zero` takes a stage from 0 to 3."""


def pin_value(key: str, value: str | float, name: str) -> int | str:
    """Return the value of one pin: a count, a ZeRO stage, or a word in lower case.

    `name` is what messages call it. Raises `InputError` for a value of the wrong kind.
    """
    if key in FIX_COUNTS:
        return parse_count(value, name)
    if key == "zero":
        if str(value) not in {"0", "1", "2", "3"}:
            raise InputError(f"{name} must be 0, 1, 2 or 3, not {shown(value)}")
        return int(value)
    if not isinstance(value, str):
        raise InputError(f"{name} must be a word, not {shown(value)}")
    return value.strip().lower()
