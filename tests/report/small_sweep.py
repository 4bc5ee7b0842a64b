"""A sweep of a few counts: enough for a page and a planner behind it, at a second of CPU time."""

from __future__ import annotations

from functools import cache
from typing import Any

from crore.plan import PlanRequest
from crore.plan.record import request_record
from crore.plan.sweep import sweep
from crore.report.sweeping import entry_of

REQUEST = PlanRequest(
    model="llama-3.1-8b", gpu="h100-sxm", gpus=64, tokens=10**12, title="A small sweep"
)
COUNTS = (1, 8, 64, 4096, 10_000_000)


@cache
def small_sweep() -> dict[str, Any]:
    """Return the record of `crore.sweep`, the same each time: nobody may change it."""
    at = [entry_of(found) for found in sweep(REQUEST, COUNTS)]
    return {"request": request_record(REQUEST), "counts": list(COUNTS), "at": at}
