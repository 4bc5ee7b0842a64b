"""A sweep as a file: every GPU count of the slider with its plan, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from crore.catalog import load_catalog
from crore.errors import InputError
from crore.io import Record, read_json, write_json
from crore.plan.record import request_record, whole_record
from crore.plan.request import PlanRequest
from crore.plan.saved import request_from
from crore.plan.sweep import AtCount, bare, grid_counts, sweep

SWEEP_VERSION: Final = 1
"""Of crore.sweep, the file of a sweep."""
SAVED_EVERY_S: Final = 5.0
Show = Callable[[float, str], None]
"""Share done, what is at work."""


def sweep_record(
    request: PlanRequest, saved: Path | None = None, watch: Show | None = None,
    head: Record | None = None,
) -> Record:  # fmt: skip
    """Return the sweep of a request: `request, counts, at`, one entry per distinct count.

    `saved` is a file that is taken up where it holds the same request and constants, and written
    while the sweep goes on, so that Ctrl-C loses five seconds at most. `head` is put in front.
    Raises InputError for a request that has no GPU to count, or a file of another request.
    """
    asked = bare(request, load_catalog(request.catalog_file))
    counts = grid_counts(asked.gpus)
    record: Record = {
        **(head or {}), "request": request_record(asked), "counts": list(counts), "at": []
    }  # fmt: skip
    if saved is not None and saved.exists():
        record["at"] = _known(saved, record)
    done = {entry["gpus"] for entry in record["at"]}
    distinct = sorted(set(counts))
    missing = [count for count in distinct if count not in done]
    last = time.monotonic()
    try:
        for found in sweep(asked, missing):
            record["at"].append(entry_of(found))
            if watch is not None:
                watch(len(record["at"]) / len(distinct), f"{found.gpus:,} GPUs")
            if saved is not None and time.monotonic() - last > SAVED_EVERY_S:
                write_json(saved, "sweep", SWEEP_VERSION, record)
                last = time.monotonic()
    finally:
        if saved is not None and missing:
            write_json(saved, "sweep", SWEEP_VERSION, record)
    record["at"].sort(key=lambda entry: entry["gpus"])
    return record


def read_sweep(path: Path) -> tuple[PlanRequest, Record]:
    """Return the request and the record of a saved sweep; InputError for another or a damaged."""
    record = read_json(path, "sweep", SWEEP_VERSION)
    request = request_from(record.get("request"), path.name[:40])
    at, counts = record.get("at"), record.get("counts")
    if not isinstance(at, list) or not isinstance(counts, list) or not all(map(_is_entry, at)):
        raise InputError(f"{path.name[:60]} is no whole sweep: make it anew (crore report MISSION)")
    return request, record


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("gpus"), int) and "plan" in entry


def _known(saved: Path, asked: Record) -> list[Record]:
    """Return the entries of a file of the same sweep."""
    _, record = read_sweep(saved)
    name = saved.name[:60]
    if record["request"] != asked["request"]:
        raise InputError(f"{name} is the sweep of another request: give another file, or delete it")
    if record.get("constants_sha256") != asked.get("constants_sha256"):
        raise InputError(f"{name} was made with other constants: give another file, or delete it")
    return list(record["at"])


def entry_of(found: AtCount) -> Record:
    """Return what one count comes to as an entry of a sweep's `at`."""
    return {
        "gpus": found.gpus, "reason": found.reason, "needed_bytes": found.needed_bytes,
        "usable_bytes": found.usable_bytes, "capacity_bytes": found.capacity_bytes,
        "plan": None if found.plan is None else whole_record(found.plan),
    }  # fmt: skip


def with_plan(record: Record, body: Record) -> Record:
    """Return a sweep with a plan file's own plan at its count, whatever the search finds there."""
    gpus = body["gpus_available"]
    own = _of_file(body)
    others = [entry for entry in record["at"] if entry["gpus"] != gpus]
    return {**record, "at": sorted([*others, own], key=lambda entry: entry["gpus"])}


def alone(body: Record) -> Record:
    """Return the sweep of a plan file that has one count: its own."""
    counts = [body["gpus_available"]]
    return {"request": body["request"], "counts": counts, "at": [_of_file(body)]}


def _of_file(body: Record) -> Record:
    capacity = body["memory_capacity_bytes"]
    margin = (body["request"].get("limits") or {}).get("memory_margin", 0.0)
    return {
        "gpus": body["gpus_available"], "reason": "", "needed_bytes": None, "plan": body,
        "usable_bytes": capacity / (1 + margin), "capacity_bytes": capacity, "pinned": True,
    }  # fmt: skip


def entries(record: Record) -> Iterator[Record]:
    """Yield the entries in order of GPUs, each with the best plan so far where that is faster.

    More GPUs than a plan divides into can always be left idle: a count whose own plan is slower
    than one of fewer GPUs, or that has none, takes that one (`idle` is true then); a plan file's
    own count keeps its plan.
    """
    best: Record | None = None
    for entry in record["at"]:
        plan = entry["plan"]
        better = plan is not None and (best is None or _days(plan) <= _days(best))
        if better or entry.get("pinned"):
            best = plan
        yield {**entry, "plan": best, "idle": best is not None and best is not plan}


def _days(plan: Record) -> float:
    return float(plan["days"]["value"])
