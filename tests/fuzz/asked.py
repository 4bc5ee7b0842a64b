"""Random requests through the Python API."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from tests.fuzz import words

from crore.plan import Limits, PlanRequest
from crore.units import limit_value

OPTIONAL: Final = {"tokens": 0.3, "stock_tokens": 0.1, "seq_len": 0.4, "global_batch": 0.25,
                   "precision": 0.4, "objective": 0.5, "top": 0.2, "wan": 0.1,
                   "sites": 0.1, "fabric": 0.15}  # fmt: skip
"""Key -> how often it is given."""
NUMBERS: Final = ("gpus", "tokens", "seq_len", "global_batch", "top", "sites", "stock_tokens")


def request_of(rng: Random) -> PlanRequest:
    """Return a request: mostly sound, sometimes with a number that no request may hold."""
    given: dict[str, Any] = {"model": words.choice_of(rng, "model")}
    if rng.random() < 0.15:
        given["cluster"] = rng.choice(words.CLUSTERS)
    else:
        given |= {"gpu": words.choice_of(rng, "gpu"), "gpus": words.gpus(rng)}
    given |= {k: words.choice_of(rng, k) for k, often in OPTIONAL.items() if rng.random() < often}
    if rng.random() < 0.4 and given.get("gpus", 0) <= 100_000:
        given["stack"] = rng.choice(words.STACKS)
    if rng.random() < 0.3:
        given["fix"] = words.pins(rng)
    limits: dict[str, Any] = {}
    for key, text in words.limits(rng).items() if rng.random() < 0.4 else ():
        limits |= limit_value(key, text, key)
    if rng.random() < 0.1:
        given[rng.choice(NUMBERS)] = rng.choice((0, -1, -(10**30), 10**30))
    if rng.random() < 0.05:
        odd = rng.choice((float("nan"), float("inf"), -1.0, 1e-300, 1e300))
        limits[rng.choice(("days", "power_w", "memory_margin"))] = odd
    if rng.random() < 0.05:
        name = rng.choice(("model", "gpu", "precision", "stack", "objective"))
        given[name] = words.spoilt(rng, str(given.get(name, "fp8")))
    return PlanRequest(**given, limits=Limits(**limits))
