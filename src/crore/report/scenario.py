"""A scenario as the tail of an address: `s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=64`.

What stands in it is what the planner is asked; the same text gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from crore.errors import InputError, UnknownName, shown
from crore.plan.pins import FIX_KEYS, pin_value
from crore.plan.request import Limits, PlanRequest
from crore.units import format_count, parse_count

VERSION: Final = "1"
MOST_CHARS: Final = 2000
PINS: Final = "pins"
"""Of an address, what is pinned beside the scenario."""
COUNTS: Final = ("gpus", "tokens", "seq_len", "global_batch", "stock_tokens", "sites")
WORDS: Final = ("model", "gpu", "fabric", "wan", "precision", "stack", "lost_worlds",
                "basis")  # fmt: skip
KEYS: Final = ("model", "gpu", "gpus", "tokens", "seq_len", "global_batch", "precision", "stack",
               "fabric", "wan", "sites", "stock_tokens", "lost_worlds", "basis", "fix")  # fmt: skip


def scenario_of(request: PlanRequest) -> dict[str, str]:
    """Return what of a request an address says, as text; what is left open is left out."""
    found: dict[str, str] = {}
    plain = PlanRequest(model="")
    for key in KEYS:
        value = getattr(request, key)
        if value == getattr(plain, key):
            continue
        if key == "fix":
            found[key] = ",".join(f"{k}={v}" for k, v in value.items())
        else:
            found[key] = _exact(value) if key in COUNTS else str(value)
    if request.global_batch_tokens and request.seq_len:
        found["global_batch"] = str(request.global_batch_tokens // request.seq_len)
    return found


def _exact(value: int) -> str:
    """Return a count as one types it, where that is the same number: `15.6T`, else digits."""
    short = format_count(value)
    return short if parse_count(short) == value else str(value)


def written(scenario: Mapping[str, str]) -> str:
    """Return a scenario as the tail of an address, without the `#`."""
    parts = [f"{key}={quote(value, safe=',.:-_')}" for key, value in scenario.items()]
    return ";".join([f"s={VERSION}", *parts])


def read(text: str) -> dict[str, str]:
    """Return the scenario of an address or of its tail, what a page has pinned left out.

    Raises InputError for a text that is none or too long, UnknownName for a key that none has.
    """
    tail = text.rpartition("#")[2].strip()
    if len(text) > MOST_CHARS:
        raise InputError(f"a scenario has at most {MOST_CHARS:,} characters, not {len(text):,}")
    pairs = [part.partition("=") for part in tail.split(";") if part]
    values = {key: unquote(value) for key, _, value in pairs}
    if len(values) < len(pairs):
        raise InputError(f"an address says each thing once, not {shown(tail)}")
    if values.pop("s", "") != VERSION:
        raise InputError(f"an address ends in #s={VERSION};model=…;gpu=…;gpus=…, not {shown(tail)}")
    values.pop(PINS, None)
    return values


def request_from(scenario: Mapping[str, Any], base: PlanRequest | None = None) -> PlanRequest:
    """Return the request of a scenario, laid over `base` (its limits and catalogue file).

    Raises InputError for a value out of range, UnknownName for a key that a scenario does not have.
    """
    fields: dict[str, Any] = {}
    for key, value in scenario.items():
        if key not in KEYS:
            raise UnknownName("key of a scenario", key, KEYS)
        if not isinstance(value, str) or not value:
            raise InputError(f"{key} must be a word or a number, not {shown(value)}")
        fields[key] = _value(key, value)
    if "model" not in fields:
        raise InputError("a scenario names its model: model=llama-3.1-8b, for example")
    file = base.catalog_file if base else None
    limits = base.limits if base else Limits()
    return PlanRequest(**fields, catalog_file=file, limits=limits)


def _value(key: str, value: str) -> Any:
    if key in COUNTS:
        return parse_count(value, key)
    if key != "fix":
        return value
    pairs = [part.partition("=") for part in value.split(",")]
    for pin, _, _ in pairs:
        if pin not in FIX_KEYS:
            raise UnknownName("key of fix", pin, FIX_KEYS)
    return {pin: pin_value(pin, text, f"fix {pin}") for pin, _, text in pairs}
