"""What appears for the first time as the GPUs grow, each where it begins to matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from crore.catalog import Catalog
from crore.catalog.supply import scenario
from crore.io import Record
from crore.report.marks import spread
from crore.report.points import quarter, recovery
from crore.units import format_duration, format_int, format_watts

Holds = Callable[[Record], bool]
Words = Callable[[Record], str]
FAILURES_SEEN: Final = 0.99
"""Goodput below which failures cost as much as a visible slice."""
HOUR_S: Final = 3600.0
MINUTE_S: Final = 60.0
WALL: Final = 0.5
"""Share of the GPUs without work from which on it is no matter of what divides what."""
LATENCY: Final = "latency wall"
AXES: Final = (
    ("dp", "data parallelism: replicas share the batch"),
    ("tp", "tensor parallelism: a layer is split"),
    ("pp", "a pipeline: the layers are split, and stages wait for each other"),
    ("cp", "context parallelism: a sequence is split"),
    ("ep", "expert parallelism: experts live on different GPUs"),
)


def news_of(entries: Iterable[Record], catalog: Catalog) -> list[list[str]]:
    """Return, for every entry of a sweep (`sweeping.entries`), what is new there.

    A thing is new at the first count with a plan that shows it.
    """
    told: set[str] = set()
    found: list[list[str]] = []
    for entry in entries:
        plan, here = entry["plan"], []
        if plan is not None:
            here = [
                (name, words(plan)) for name, holds, words in _things(entry, catalog)
                if name not in told and holds(plan)
            ]  # fmt: skip
        told.update(name for name, _ in here)
        found.append([words for _, words in here])
    return found


def _things(entry: Record, catalog: Catalog) -> list[tuple[str, Holds, Words]]:
    """Return (name, whether a plan shows it, what to say)."""
    part = catalog.accelerator(entry["plan"]["gpu"])
    node, domain = part.node_size, part.domain_size
    idle = entry["gpus"] - entry["plan"]["gpus"]
    axes: list[tuple[str, Holds, Words]] = [
        (axis, lambda p, axis=axis: p["layout"][axis] > 1, lambda _p, words=words: words)  # type: ignore[misc]
        for axis, words in AXES
    ]
    return [
        ("fits", lambda _: True, lambda p: f"it fits: {format_int(p['gpus'])} GPUs hold it"),
        *axes,
        ("node", lambda p: p["gpus"] > max(node, domain),
         lambda _: f"more than one {'rack' if domain > node else 'server'}: a network between"),
        ("failures", lambda p: p["goodput"] < FAILURES_SEEN,
         lambda p: "failures cost a visible share: " + _every(p)),
        ("hour", lambda p: p["mtbf_s"] < HOUR_S,
         lambda p: "something fails more than once an hour: " + _every(p)),
        ("minute", lambda p: p["mtbf_s"] < MINUTE_S,
         lambda p: "something fails more than once a minute: " + _every(p)),
        ("worlds", lambda p: p["worlds"] > 1,
         lambda p: f"several worlds, so that one can die: {recovery(p)}"),
        ("islands", lambda p: p["islands"] > 1,
         lambda p: f"islands that meet every {p['outer_step']['interval']:.0f} steps: "
         f"{recovery(p)}"),
        ("megawatt", lambda p: _watts(p) >= 1e6,
         lambda p: f"a substation's power: {format_watts(_watts(p))}"),
        ("gigawatt", lambda p: _watts(p) >= 1e9,
         lambda p: f"a power station's output: {format_watts(_watts(p))}"),
        ("sites", lambda p: _likely(p, "sites") > 1, lambda _: "more than one site can feed"),
        ("years", _waits,
         lambda p: f"supply has to deliver first: {spread(p['ready_year'], quarter)[0]}"),
        ("extrapolated", lambda p: p["step_time_s"]["evidence"] == "extrapolated",
         lambda _: "from here on extrapolated: nobody has published such a run"),
        ("latency", lambda p: any(it["name"] == LATENCY and it["binds"] for it in p["limits"]),
         lambda _: "messages wait for light: latency binds"),
        ("batch", lambda p: any(it["name"] == "global batch" and it["binds"] for it in p["limits"]),
         lambda _: "the batch binds: a larger one, or a larger model, would use the GPUs better"),
        ("idle", lambda _: entry["idle"] and idle > WALL * entry["gpus"],
         lambda _: f"more GPUs than this model and batch can use: {idle:,} idle"),
    ]  # fmt: skip


def _every(plan: Record) -> str:
    return f"one every {format_duration(plan['mtbf_s'])}"


def _watts(plan: Record) -> float:
    return _middle(plan, "power_w")


def _likely(plan: Record, key: str) -> float:
    return float((plan[key] or {}).get("likely") or 0.0)


def _middle(plan: Record, key: str) -> float:
    return float((plan[key] or {}).get("p50") or 0.0)


def _waits(plan: Record) -> bool:
    """Return whether the fleet's delivery lies more than a year after the scenario begins."""
    ready = plan["ready_year"]
    if ready is None:
        return False
    return ready["p50"] is None or bool(ready["p50"] > scenario(plan["supply"]).begin + 1)
