"""What the user types after a flag, turned into values; the commands share it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from crore.errors import InputError, UnknownName, shown
from crore.units import LIMIT_KEYS, limit_value, parse_count


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
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", parser=file_name, help="Write it (JSON)."),
]


def optional_count(text: str | None, flag: str) -> int | None:
    """Parse a count flag that may be absent; see `crore.units.parse_count`."""
    return None if text is None else parse_count(text, flag)


def optional_word(text: str | None) -> str | None:
    """Return a flag's word as the tables spell it: lower case, no spaces around it."""
    return None if text is None else text.strip().lower()


def parse_fix(text: str | None) -> dict[str, int | str]:
    """Parse `tp=8,pp=16,recompute=full` into a dictionary.

    Raises `UnknownName` for a key outside `crore.plan.pins.FIX_KEYS`, `InputError` for a value
    missing, given twice or out of range.
    """
    from crore.plan.pins import FIX_KEYS, pin_value

    pairs = key_values(text, "--fix", FIX_KEYS, _example)
    return {key: pin_value(key, value, f"--fix {key}") for key, value in pairs}


def parse_limits(text: str | None) -> dict[str, Any]:
    """Parse `power=30 MW,days=90` into the keys of `crore.plan.Limits`.

    Raises `UnknownName` for a key outside `crore.units.LIMIT_KEYS`, `InputError` for a value out
    of range.
    """
    found: dict[str, Any] = {}
    for key, value in key_values(text, "--limit", LIMIT_KEYS, lambda key: _LIMIT_EXAMPLES[key]):
        found |= limit_value(key, value, f"--limit {key}")
    return found


_LIMIT_EXAMPLES = {"gpus": "8k", "memory": "80 GB", "memory_margin": "0.04", "days": "90",
                   "global_batch_tokens": "16M", "power": "30 MW", "world_gpus": "10k"}  # fmt: skip


def key_values(
    text: str | None, flag: str, keys: Sequence[str], example: Callable[[str], str]
) -> Iterator[tuple[str, str]]:
    """Yield the (key, value) pairs of `a=1,b=2`, each key known and given once, in lower case.

    `example` returns a value for a key. Raises `UnknownName` and `InputError`, naming `flag`.
    """
    seen: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in (text or "").split(","))):
        key, equals, value = (side.strip().lower() for side in item.partition("="))
        if key not in keys:
            raise UnknownName(f"key in {flag}", key, keys)
        if not equals or not value:
            raise InputError(f"{flag} {key} needs a value, for example {key}={example(key)}")
        if key in seen:
            raise InputError(f"{flag} names {key} twice: {seen[key]} and {value[:40]}")
        seen[key] = value
        yield key, value


def _example(key: str) -> str:
    words = {"schedule": "1f1b", "recompute": "full", "offload": "none", "precision": "bf16"}
    return words.get(key, "1")
