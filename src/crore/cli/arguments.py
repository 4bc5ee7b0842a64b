"""What the user types after a flag, turned into values; the commands share it."""

from pathlib import Path
from typing import Annotated

import typer

from crore.errors import InputError, UnknownName, shown
from crore.units import parse_count

FIX_COUNTS = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "etp",
    "dp_replicate",
    "dp_shard",
    "micro_batch",
    "global_batch",
    "seq_len",
)
"""Keys of `--fix` that take a whole number of at least one."""
FIX_WORDS = ("schedule", "recompute", "offload", "optimizer", "precision")
"""Keys of `--fix` that take a word; the planner knows the words."""
FIX_KEYS = (*FIX_COUNTS, "zero", *FIX_WORDS)
"""All keys of `--fix`; `zero` takes a stage from 0 to 3."""


def file_name(text: str) -> Path:
    """Return a path as typed; raises `InputError` for an empty one, which is no file."""
    if not text.strip():
        raise InputError(f"the file name is empty ({shown(text)}): give the path of a file")
    return Path(text)


CatalogFile = Annotated[
    Path | None,
    typer.Option(
        "--catalog",
        metavar="FILE",
        parser=file_name,
        help="Your own models, GPUs or fabrics (TOML).",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def optional_count(text: str | None, flag: str) -> int | None:
    """Parse a count flag that may be absent; see `crore.units.parse_count`."""
    return None if text is None else parse_count(text, flag)


def optional_word(text: str | None) -> str | None:
    """Return a flag's word as the tables spell it: lower case, no spaces around it."""
    return None if text is None else text.strip().lower()


def parse_fix(text: str | None) -> dict[str, int | str]:
    """Parse `tp=8,pp=16,recompute=full` into a dictionary.

    Raises `UnknownName` for a key outside `FIX_KEYS`, `InputError` for a missing or repeated value.
    """
    fixed: dict[str, int | str] = {}
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        key, equals, value = (side.strip().lower() for side in item.partition("="))
        if key not in FIX_KEYS:
            raise UnknownName("key in --fix", key, FIX_KEYS)
        if not equals or not value:
            raise InputError(f"--fix {key} needs a value, for example {key}={_example(key)}")
        if key in fixed:
            raise InputError(f"--fix names {key} twice: {fixed[key]} and {value[:40]}")
        fixed[key] = _fixed_value(key, value)
    return fixed


def _fixed_value(key: str, value: str) -> int | str:
    if key == "zero":
        if value not in {"0", "1", "2", "3"}:
            raise InputError(f"--fix zero must be 0, 1, 2 or 3, not {shown(value)}")
        return int(value)
    return parse_count(value, f"--fix {key}") if key in FIX_COUNTS else value


def _example(key: str) -> str:
    words = {"schedule": "1f1b", "recompute": "full", "offload": "none", "precision": "bf16"}
    return words.get(key, "1")
