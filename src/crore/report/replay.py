"""A page read back: its record, and what is different when it is made again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from crore.errors import InputError
from crore.io import Record, read_text
from crore.report.sheet import REPORT_VERSION

_SHEET: Final = re.compile(
    r'<script type="application/json" id="sheet">(?P<json>.*?)</script>', re.DOTALL
)
SKIPPED: Final = ("crore", "command", "constants_sha256", "reproduce", "run", "live", "launch",
                  "schema", "replay", "kind")  # fmt: skip
"""What need not be the same: how it was made, and a run, which happened once."""


def read_report(path: Path) -> Record:
    """Return the record inside a page; InputError for a file that is none, or a newer one."""
    found = _SHEET.search(read_text(path))
    name = path.name[:60]
    if found is None:
        raise InputError(f"{name} is no page that crore report wrote: it holds no sheet")
    try:
        sheet = json.loads(found["json"])
        kind, _, version = str(sheet["schema"]).partition("/")
        newer = kind != "crore.report" or int(version) > REPORT_VERSION
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{name} is damaged: its sheet cannot be read") from error
    if newer:
        raise InputError(
            f"{name} has schema {str(sheet['schema'])[:40]}; this crore reads crore.report up to "
            f"{REPORT_VERSION}: install a newer crore"
        )
    return dict(sheet)


def differences(before: Record, after: Record) -> list[tuple[str, str, str]]:
    """Return (place, before, after) of every value that is another, in the order of the page."""
    kept = [key for key in {**before, **after} if key not in SKIPPED]
    return [
        found for key in kept for found in _differ(key, before.get(key), after.get(key))
    ]  # fmt: skip


def _differ(place: str, before: Any, after: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from _differ(f"{place}.{key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list):
        for k in range(max(len(before), len(after))):
            pair = (side[k] if k < len(side) else None for side in (before, after))
            yield from _differ(f"{place}.{k}", *pair)
    elif before != after:
        yield place, _shown(before), _shown(after)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
