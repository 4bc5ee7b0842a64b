"""Published runs are read whole, and a line that breaks the schema is named."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from crore.catalog import load_catalog, read_runs
from crore.errors import InputError

RUNS = Path(__file__).parents[1] / "published" / "runs.jsonl"
ONE = {"id": "x1", "model": "llama3-8b", "gpu": "h100-sxm", "gpus": 8}


@pytest.fixture
def write(tmp_path):
    def _write(*rows):
        path = tmp_path / "mine.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    return _write


@pytest.fixture(scope="module")
def published():
    return read_runs(RUNS)


def test_all_published_runs_are_read(published):
    assert len(published) == 1291
    assert sum(run.scorable is True for run in published) == 1062
    assert len({run.id for run in published}) == 1291
    assert sum(run.memory_bytes_per_gpu is not None for run in published) == 73
    assert sum(run.derived is True for run in published) == 314


def test_scorable_runs_keep_the_schemas_promises(published):
    for run in (run for run in published if run.scorable):
        assert run.step_time_s is not None
        assert run.gpus == run.tp * run.pp * (run.cp or 1) * run.dp, run.id
        assert run.global_batch % (run.dp * run.micro_batch) == 0, run.id


def test_every_scorable_run_names_rows_of_the_catalogue(published):
    catalog = load_catalog()
    for run in published:
        catalog.accelerator(run.gpu)
        if run.scorable:
            assert catalog.model(run.model).name == run.model


def test_no_run_used_more_memory_than_its_gpu_has(published):
    catalog = load_catalog()
    for run in published:
        if run.memory_bytes_per_gpu:
            capacity = catalog.accelerator(run.gpu).memory_bytes
            assert run.memory_bytes_per_gpu <= capacity, run.id


def test_half_the_file_is_the_network_of_its_servers(published):
    stated = {run.network_gbit_per_node for run in published if run.family == "vtrain_single"}
    assert 800.0 in stated
    assert sum(run.network_gbit_per_node == 1600.0 for run in published) == 59


def test_reading_all_of_them_takes_under_150_ms():
    best = 9.0
    for _ in range(3):
        start = time.process_time()
        read_runs(RUNS)
        best = min(best, time.process_time() - start)
    assert best < 0.15


def test_a_minimal_run_leaves_the_rest_unknown(write):
    (run,) = read_runs(write(ONE))
    assert (run.id, run.gpus) == ("x1", 8)
    assert run.tp is None
    assert run.step_time_s is None
    assert run.recompute is None
    assert run.network_gbit_per_node is None


def test_measurements_notes_and_lists_are_unpacked(write):
    row = {
        **ONE,
        "measured": {"step_time_s": 2, "memory_bytes_per_gpu": 10**10, "memory_kind": "reserved"},
        "notes": "two NICs, 50.5 Gb/s per node; fine",
        "recompute_modules": ["mlp"],
        "mtp": True,
        "offload": None,
    }
    (run,) = read_runs(write(row, ""))
    assert (run.step_time_s, run.memory_bytes_per_gpu) == (2.0, 1e10)
    assert run.network_gbit_per_node == 50.5
    assert run.recompute_modules == ("mlp",)
    assert run.mtp is True


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[1]", "line 2 must hold a JSON object"),
        ({**ONE, "modle": "x"}, "line 2.*did you mean model"),
        ({**ONE, "measured": {"step_time": 1}}, "line 2.*did you mean step_time_s"),
        ({**ONE, "step_time_s": 1.0}, "line 2"),
        ({**ONE, "measured": 3}, "measured"),
        ({k: v for k, v in ONE.items() if k != "gpu"}, "line 2: a run needs gpu"),
        ({**ONE, "gpus": 0}, "gpus 0"),
        ({**ONE, "gpus": 8.5}, "gpus"),
        ({**ONE, "tp": True}, "tp"),
        ({**ONE, "tp": "8"}, "whole number"),
        ({**ONE, "scorable": 1}, "true or false"),
        ({**ONE, "precision": "int4"}, "precision"),
        ({**ONE, "sharding": "zero4"}, "zero1, zero2, zero3"),
        ({**ONE, "recompute": "some"}, "selective"),
        ({**ONE, "measured": {"step_time_s": -1}}, "step_time_s"),
        ({**ONE, "measured": {"step_time_s": 1e-10}}, "step_time_s.*from 1e-09 to 1e.12"),
        ({**ONE, "measured": {"step_time_s": 10**400}}, "line 2: step_time_s"),
        ({**ONE, "measured": {"memory_bytes_per_gpu": 10**400}}, "line 2: memory_bytes_per_gpu"),
        ({**ONE, "seq_len": 10**400}, "line 2: seq_len 1000.*whole number from 1 to 1e15"),
        ({**ONE, "gpus": 10**15 + 1}, "line 2: gpus"),
        ({**ONE, "notes": "9" * 400 + " Gb/s per node"}, "line 2: network_gbit_per_node"),
        ('{"id": 1' + "0" * 5000 + "}", "line 2 is not valid JSON"),
        ("[" * 100_000, "line 2 is not valid JSON"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(write, row, message):
    with pytest.raises(InputError, match=message) as caught:
        read_runs(write(ONE, row))
    assert len(str(caught.value)) <= 240


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_runs(tmp_path / "none.jsonl")
