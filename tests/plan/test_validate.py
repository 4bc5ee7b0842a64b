"""Validation: every run predicted, errors scored by group, unknown fields filled in."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crore.catalog import load_catalog, read_runs
from crore.errors import InputError
from crore.plan import render_validation, validate_runs, validation_record
from crore.plan.published import job_of, jobs_of, with_layout

RUNS = Path(__file__).parent.parent / "published/runs.jsonl"
CATALOG = load_catalog()


@pytest.fixture(scope="module")
def runs():
    return read_runs(RUNS)


@pytest.fixture(scope="module")
def made(runs):
    return validate_runs(runs, CATALOG)


def test_no_scorable_run_is_refused(runs, made):
    predicted = {row["id"] for row in made.predictions}
    assert {run.id for run in runs if run.scorable} <= predicted
    assert made.measured == 1062


def test_predictions_carry_the_schema_of_a_prediction_file(made):
    keys = {
        "id", "step_time_s", "step_time_low_s", "step_time_high_s", "memory_bytes_per_gpu", "fits",
    }  # fmt: skip
    for row in made.predictions:
        assert set(row) == keys
        assert 0 < row["step_time_low_s"] < row["step_time_s"] < row["step_time_high_s"]
        assert np.isfinite(row["memory_bytes_per_gpu"])


def test_the_targets_of_the_calibration_rows_are_met(made):
    """The project's own bar: medians, worst family, tail and bias."""
    rows = [s for s in made.scores["family"] if s.runs >= 10 and s.group != "all"]
    total = made.scores["family"][-1]
    assert np.mean([s.median_abs_error for s in rows]) <= 0.07
    assert max(s.median_abs_error for s in rows) <= 0.15
    assert total.p90_abs_error <= 0.25
    assert max(abs(s.bias) for s in rows) <= 0.04
    assert max(abs(s.mean_error) for s in rows) <= 0.04
    assert made.memory.runs == 37
    assert made.memory.median_abs_error <= 0.06
    assert made.ran_and_fit >= 0.97


def test_groups_partition_the_runs(made):
    for rows in made.scores.values():
        assert sum(s.runs for s in rows if s.group != "all") == made.measured


def test_a_measurement_does_not_leak_into_its_prediction(runs, made):
    """Doubling every measured value leaves the predictions as they were."""
    doubled = [replace(r, step_time_s=2 * r.step_time_s) if r.step_time_s else r for r in runs]
    again = validate_runs(doubled, CATALOG)
    assert again.predictions == made.predictions


def test_a_run_alone_is_predicted_as_in_company(runs, made):
    by_id = {row["id"]: row for row in made.predictions}
    for run in runs[::97]:
        if run.id in by_id:
            (alone,) = validate_runs([run], CATALOG).predictions
            assert alone["step_time_s"] == pytest.approx(by_id[run.id]["step_time_s"])


def test_a_missing_layout_is_filled_with_one_that_agrees(runs):
    run = next(r for r in runs if r.id == "dg017")
    bare = replace(run, tp=None, pp=None, micro_batch=None, dp=None, cp=None, vpp=None)
    filled = with_layout(bare, CATALOG)
    ranks = [filled.tp or 0, filled.pp or 0, filled.cp or 0, filled.dp or 0]
    assert np.prod(ranks) == run.gpus
    assert (run.global_batch or 0) % ((filled.dp or 0) * (filled.micro_batch or 0)) == 0


def test_unknown_recompute_takes_the_cheapest_that_fits(runs):
    """175B on 128 GPUs keeps too much without recompute; 5B on 16 does not."""
    big = next(r for r in runs if r.id == "dg099")
    small = next(r for r in runs if r.id == "dg104")
    job = jobs_of([big, small], CATALOG)
    large, little = np.asarray(job.layout.recompute)
    assert large > 0
    assert little == 0


def test_a_network_stated_in_the_notes_is_used(runs):
    run = next(r for r in runs if r.network_gbit_per_node == 800)
    assert job_of(run, CATALOG).machine.nic_bytes_per_s == pytest.approx(12.5e9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu": "h100-smx"}, "unknown GPU in run 'odd' 'h100-smx'.*h100-sxm"),
        ({"model": ""}, "unknown model in run 'odd' ''"),
        ({"model": "./none.json"}, "run 'odd': no file or folder"),
    ],
)
def test_a_name_that_the_catalogue_lacks_is_an_error_of_its_run(runs, change, message):
    odd = replace(runs[0], id="odd", **change)
    with pytest.raises(InputError, match=message):
        validate_runs([odd], CATALOG)
    (reason,) = validate_runs([runs[0], odd], CATALOG).skipped
    assert re.search(message, reason)


def test_runs_that_say_nothing_of_their_step_are_an_error_when_alone(runs):
    bare = replace(runs[0], id="bare", precision=None)
    with pytest.raises(InputError, match="nothing to predict: run bare lacks precision"):
        validate_runs([bare, bare], CATALOG)
    with pytest.raises(InputError, match="the file holds no run"):
        validate_runs([], CATALOG)
    made = validate_runs([bare, runs[0]], CATALOG)
    assert made.skipped == ["bare lacks precision"]
    assert "bare lacks precision" in render_validation(made)


def test_runs_without_measurements_are_predicted_and_not_scored(runs):
    made = validate_runs([replace(runs[0], step_time_s=None)], CATALOG)
    assert render_validation(made) == (
        "0 measured runs, so no score; 1 predicted: see --predictions"
    )
    record = validation_record(made)
    assert (record["measured"], record["ran_and_fit"]) == (0, None)


def test_the_tables_show_every_family_and_the_misses(made):
    text = render_validation(made)
    for score in made.scores["family"]:
        assert score.group in text
    assert "% of them predicted to fit" in text
    assert validation_record(made)["measured"] == 1062


def test_one_run_that_cannot_be_predicted_does_not_stop_the_others(runs):
    odd = [
        replace(runs[0], id="odd-name", gpu="h100-smx"),
        replace(runs[0], id="odd-format", gpu="a100-sxm-80gb", precision="nvfp4"),
        replace(runs[0], id="odd-layout", tp=None, gpus=7, ep=None, global_batch=1),
    ]
    made = validate_runs([*odd, runs[0]], CATALOG)
    assert [row["id"] for row in made.predictions if row["id"] == runs[0].id]
    assert any("odd-name" in reason for reason in made.skipped)
    assert any("odd-format" in reason for reason in made.skipped)
    assert "were not predicted" in render_validation(made)
