"""A trace holds the steps it was to hold, opens as JSON and is never too large."""

from __future__ import annotations

import json

import pytest

from crore.train.profile import MAX_BYTES, Profiler, shortened

torch = pytest.importorskip("torch")


def run(profiler: Profiler, steps: int, first: int = 1) -> None:
    """Run steps of a tiny model under a profiler."""
    model = torch.nn.Linear(8, 8)
    for step in range(first, first + steps):
        with profiler.step(step):
            model(torch.ones(2, 8)).sum().backward()


def events(profiler: Profiler) -> list[dict[str, object]]:
    """Return what a written trace holds."""
    found: list[dict[str, object]] = json.loads(profiler.path.read_bytes())["traceEvents"]
    return found


def test_the_trace_holds_the_steps_after_the_warm_up(tmp_path):
    profiler = Profiler(tmp_path / "profile", 3, "cpu", first=3, steps=2)
    run(profiler, 6, first=101)
    assert profiler.path == tmp_path / "profile" / "trace_rank3.json"
    names = [str(it["name"]) for it in events(profiler)]
    assert [name for name in names if name.startswith("step ")] == ["step 103", "step 104"]
    assert any("addmm" in name for name in names)
    assert [it.name for it in profiler.path.parent.iterdir()] == ["trace_rank3.json"]


def test_a_run_that_ends_early_writes_what_it_has(tmp_path):
    profiler = Profiler(tmp_path, 0, "cpu", first=2, steps=9)
    run(profiler, 3)
    assert not profiler.path.exists()
    profiler.close()
    profiler.close()
    assert any(it["name"] == "step 3" for it in events(profiler))


def test_a_run_that_never_gets_there_writes_nothing(tmp_path):
    profiler = Profiler(tmp_path, 0, "cpu", first=5)
    run(profiler, 2)
    profiler.close()
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_is_too_large_loses_its_shortest_events(tmp_path, monkeypatch):
    monkeypatch.setattr("crore.train.profile.MAX_BYTES", 4000)
    profiler = Profiler(tmp_path, 0, "cpu", first=1, steps=2)
    run(profiler, 2)
    assert profiler.path.stat().st_size <= 4000
    assert sum(str(it["name"]).startswith("step ") for it in events(profiler)) == 2
    assert json.loads(profiler.path.read_bytes())["dropped"] > 0


def test_the_longest_events_and_the_names_of_rows_stay():
    made = [{"ph": "X", "name": f"e{n}", "dur": n} for n in range(1000)]
    rows = [{"ph": "M", "name": "process_name"}, {"ph": "i", "name": "mark"}]
    text = json.dumps({"schemaVersion": 1, "traceEvents": [*made, *rows]})
    cut = json.loads(shortened(text, 2000))
    assert cut["schemaVersion"] == 1
    names = [it["name"] for it in cut["traceEvents"]]
    stayed = len(names) - 1
    assert names == [*(f"e{n}" for n in range(1000 - stayed, 1000)), "process_name"]
    assert cut["dropped"] == 1002 - len(names)
    assert 1800 < len(json.dumps(cut, separators=(",", ":"))) <= 2000
    assert MAX_BYTES == 20_000_000
