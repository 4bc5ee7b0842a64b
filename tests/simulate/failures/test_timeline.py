"""A hundred days as a list: what is rare is told by itself, what is common by the hour."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from tests.simulate.failures.fleets import fleet

from crore.errors import InputError
from crore.simulate.failures import catalogue_run, chrome_trace, timeline

DAYS = 100.0


def counted(events):
    found: Counter[str] = Counter()
    for event in events:
        found[event.kind] += event.count
    return found


def test_a_small_fleet_is_told_event_by_event():
    run = fleet(16_384)
    events = timeline(run, "restart-disk", days=54.0, seed=1)
    assert all(event.count == 1 for event in events)
    failures = sum(
        n for kind, n in counted(events).items() if kind in {h.name for h in run.hazards}
    )
    assert failures == pytest.approx(413, abs=3 * 413**0.5)
    assert counted(events)["maintenance"] == 47
    assert {e.duration_s for e in events if e.kind == "faulty-gpu"} == {600.0}


def test_ten_million_fail_half_a_million_times_and_fit_in_a_file():
    run = fleet(10_000_000)
    events = timeline(run, "islands-quorum", days=DAYS, seed=2)
    total = sum(
        n for kind, n in counted(events).items() if kind not in ("maintenance", "straggler")
    )
    assert total == pytest.approx(DAYS * 86_400 / run.mtbf_s, rel=0.01)
    assert 4_000 * DAYS < total < 5_000 * DAYS
    assert all(e.count == 1 for e in events if e.domain in ("row", "site", "rack"))
    assert [e.t_s for e in events] == sorted(e.t_s for e in events)
    assert all(0 <= e.t_s < DAYS * 86_400 and e.duration_s <= 400_000 for e in events)
    trace = json.dumps(chrome_trace(events, run), separators=(",", ":"))
    assert len(trace) < 20e6


def test_the_worst_fleet_fits_too():
    run = catalogue_run(gpus=1e7, world_gpus=1000.0, islands=400, step_s=1.0, round_s=60.0)
    events = timeline(replace(run, hazard=30.0), "islands-free", days=1000.0)
    trace = json.dumps(chrome_trace(events, run), separators=(",", ":"))
    assert len(events) < 250_000
    assert len(trace) < 20e6


def test_one_seed_tells_one_story():
    run = fleet(100_000)
    once, again, other = (timeline(run, "quorum", days=10.0, seed=s) for s in (1, 1, 2))
    assert once == again != other


def test_a_trace_names_islands_and_domains():
    run = fleet(100_000)
    events = timeline(run, "elastic", days=5.0)
    trace = chrome_trace(events, run)["traceEvents"]
    spans = [e for e in trace if e["ph"] == "X"]
    assert len(spans) == len(events)
    assert {e["args"]["name"] for e in trace if e["name"] == "process_name"} <= {
        "fleet", *(f"island {k}" for k in range(4))
    }  # fmt: skip
    assert all(span["dur"] == 180_000_000 for span in spans if span["name"] == "faulty-gpu")


def test_no_days_are_refused():
    with pytest.raises(InputError, match="days"):
        timeline(fleet(16_384), "quorum", days=0.0)
