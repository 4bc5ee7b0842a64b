"""A hundred days of one draw: what failed, when, where, and how long its group stood still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.random import Generator

from crore.errors import InputError
from crore.simulate.failures.params import RESTARTS, Policy, Run, check_policy
from crore.simulate.failures.rates import checkpoint_of

SINGLE: Final = 10_000
"""Events of a kind up to which each is told by itself; of more, so many an hour and island."""
CELLS: Final = 48_000
"""Hours times islands at most; in longer runs or larger fleets an "hour" is several."""
HOUR_S: Final = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One failure, or those of one kind on one island within an hour."""

    t_s: float
    """From the start of the run; of the hour where several are told together."""
    kind: str
    """Its cause, "silent corruption", "straggler", "site outage", "maintenance" or "failures"."""
    domain: str
    """What went down, or "gpu to leaf" for several."""
    island: int
    """-1 for all."""
    duration_s: float
    """How long its group stood still, or was slow, or a site or its worlds were away; all together.
    """
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    kind: str
    domain: str
    rate: float
    """Of the fleet, per second."""
    lasts_s: float
    spread: bool = False
    """Durations are exponential."""


def timeline(run: Run, policy: Policy, *, days: float, seed: int = 0) -> list[Event]:
    """Return the events of so many days in order of time, at most about 200,000.

    Failures of racks, rows and sites stay single; small ones are told by the hour where there are
    more than `SINGLE` of a kind. InputError for no days; UnknownName for another policy.
    """
    check_policy(policy)
    if not 0 < days < 1e5:
        raise InputError(f"a timeline has 0 < days < 100,000, not {days:g}")
    rng, span_s = np.random.default_rng(seed), days * 86_400
    many = [k for k in _kinds(run, policy) if k.rate * span_s > SINGLE]
    events = [*_maintenance(run, span_s)]
    for kind in _kinds(run, policy):
        if kind not in many:
            events += _single(run, kind, span_s, rng)
    for kind in _merged(many):
        events += _by_the_hour(run, kind, span_s, rng)
    return sorted(events, key=lambda event: event.t_s)


def _kinds(run: Run, policy: Policy) -> list[_Kind]:
    stopped_s = _stop_s(run, policy)
    whole = run.hazard * run.gpus
    silent_s = run.silent.detect_s + (
        stopped_s if policy in RESTARTS
        else run.silent.rollback_s
    )  # fmt: skip
    return [
        *(
            _Kind(kind=h.name, domain=h.domain, rate=whole * h.per_gpu_s, lasts_s=stopped_s)
            for h in run.hazards
        ),
        _Kind(kind="silent corruption", domain="gpu", rate=whole * run.silent.per_gpu_s,
              lasts_s=silent_s),
        _Kind(kind="straggler", domain="gpu", rate=whole * run.straggling.per_gpu_s,
              lasts_s=run.straggling.evict_s),
        _Kind(kind="site outage", domain="site", rate=run.islands / run.sites.every_s,
              lasts_s=run.sites.away_s, spread=True),
    ]  # fmt: skip


def _stop_s(run: Run, policy: Policy) -> float:
    """Return how long a failure stops its group."""
    if policy == "elastic":
        return 2 * run.rebuild_s
    restarts = policy in RESTARTS
    return checkpoint_of(run, policy).restart_s if restarts else run.stall_s


def _merged(many: list[_Kind]) -> list[_Kind]:
    """Return the kinds told by the hour: all failures of parts as one."""
    parts = [k for k in many if k.kind not in ("silent corruption", "straggler")]
    rest = [k for k in many if k not in parts]
    if not parts:
        return rest
    rate = sum(k.rate for k in parts)
    lasts_s = sum(k.rate * k.lasts_s for k in parts) / rate
    return [*rest, _Kind(kind="failures", domain="gpu to leaf", rate=rate, lasts_s=lasts_s)]


def _single(run: Run, kind: _Kind, span_s: float, rng: Generator) -> Iterator[Event]:
    count = int(rng.poisson(kind.rate * span_s))
    times = rng.uniform(0, span_s, count)
    islands = rng.integers(0, run.islands, count)
    lasts = rng.exponential(kind.lasts_s, count) if kind.spread else np.full(count, kind.lasts_s)
    for t, island, duration in zip(times, islands, lasts, strict=True):
        yield Event(
            t_s=float(t), kind=kind.kind, domain=kind.domain, island=int(island),
            duration_s=float(duration),
        )  # fmt: skip


def _by_the_hour(run: Run, kind: _Kind, span_s: float, rng: Generator) -> Iterator[Event]:
    hours = max(1.0, np.ceil(span_s / HOUR_S * run.islands / CELLS))
    bins = int(np.ceil(span_s / (hours * HOUR_S)))
    each_s = span_s / bins
    counts = rng.poisson(kind.rate * each_s / run.islands, (bins, run.islands))
    for hour, island in zip(*np.nonzero(counts), strict=True):
        count = int(counts[hour, island])
        yield Event(
            t_s=float(hour) * each_s, kind=kind.kind, domain=kind.domain, island=int(island),
            duration_s=min(count * kind.lasts_s, each_s), count=count,
        )  # fmt: skip


def _maintenance(run: Run, span_s: float) -> Iterator[Event]:
    if not run.planned.away_s or run.planned.every_s > span_s:
        return
    for k in range(1, min(int(span_s / run.planned.every_s), SINGLE) + 1):
        yield Event(
            t_s=k * run.planned.every_s, kind="maintenance", domain="fleet", island=-1,
            duration_s=run.planned.away_s,
        )  # fmt: skip


def chrome_trace(events: Iterable[Event], run: Run) -> dict[str, Any]:
    """Return events as a trace for Perfetto or chrome://tracing: an island is a process.

    A domain is a thread of it; times are in microseconds. Written without spaces, a hundred days of
    ten million GPUs take less than 20 MB.
    """
    threads: dict[str, int] = {}
    spans = [
        {
            "ph": "X", "name": event.kind if event.count == 1 else f"{event.count} {event.kind}",
            "pid": event.island + 1, "tid": threads.setdefault(event.domain, len(threads)),
            "ts": round(event.t_s * 1e6), "dur": round(event.duration_s * 1e6),
        }
        for event in events
    ]  # fmt: skip
    pids = sorted({int(str(span["pid"])) for span in spans})
    return {"traceEvents": [*_names(pids, threads), *spans], "otherData": {"note": (
        f"one draw of {run.gpus:g} GPUs; failures of parts are told by the hour and island where "
        f"there are more than {SINGLE} of a kind, all they stopped in one span"
    )}}  # fmt: skip


def _names(pids: Iterable[int], threads: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield the names of processes and threads, as the format wants them."""
    for pid in pids:
        name = f"island {pid - 1}" if pid else "fleet"
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
        for domain, tid in threads.items():
            yield {
                "ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": domain}
            }  # fmt: skip
