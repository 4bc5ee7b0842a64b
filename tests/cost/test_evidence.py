"""An answer is trusted less the further it lies from what was fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost import evidence_of, fitted_constants, interval, step_time
from crore.cost.evidence import (
    SCALE_WIDTH_PER_DECADE,
    UNSEEN_PART_WIDTH,
    decades_beyond,
    fitted_widths,
    half_width,
)

C = fitted_constants()
LEFT_OUT = Path(__file__).parents[2] / "benchmarks" / "left_out.json"


@pytest.fixture(scope="module")
def scores():
    """Return what each family scored by constants fitted without it."""
    return json.loads(LEFT_OUT.read_text(encoding="utf-8"))


def log_width(job, **seen):
    """Return half the width of ln(step time)."""
    low, high = interval(job, step_time(job, C), **seen)
    return float(np.log(high / low) / 2)


def test_the_interval_is_around_the_prediction(published):
    low, high = interval(published.job, published.time)
    assert (low < published.time.step_s).all()
    assert (published.time.step_s < high).all()
    np.testing.assert_allclose(low * high, published.time.step_s**2, rtol=1e-12)


@given(small=st.integers(1, 10**6), times=st.integers(2, 100))
def test_it_widens_with_scale(make_job, small, times):
    job = make_job(dp_shard=small, global_batch=float(64 * small))
    larger = make_job(dp_shard=small * times, global_batch=float(64 * small * times))
    near, far = (float(decades_beyond(j.layout.gpus)) for j in (job, larger))
    assert far >= near >= 0
    if far > near:
        # The same per-rank work, so the width inside the calibrated range hardly moves.
        assert log_width(larger) > log_width(job) * 0.9
    assert log_width(larger) >= SCALE_WIDTH_PER_DECADE * far


def test_ten_million_gpus_are_less_certain_than_ten_thousand(make_job):
    widths = [log_width(make_job(dp_shard=n, global_batch=64.0 * n)) for n in (64, 10**4, 10**7)]
    assert widths == sorted(widths)
    assert widths[2] > 1.5 * widths[0]


def test_it_widens_for_a_part_no_run_used(make_job):
    job = make_job()
    assert log_width(job, seen_part=False) == pytest.approx(
        np.hypot(log_width(job), UNSEEN_PART_WIDTH)
    )


def test_it_widens_for_experts_host_bound_steps_and_blocking_launches(make_job):
    plain = make_job()
    widths = fitted_widths()
    time = step_time(plain, C)
    inside = float(half_width(plain, time, widths))
    assert inside >= widths["base_width"]
    blocked = replace(plain, stack=replace(plain.stack, launch_blocking=1.0))
    assert half_width(blocked, time, widths) > inside
    sparse = make_job("mixtral-8x7b")
    assert half_width(sparse, step_time(sparse, C), widths) > widths["expert_width"]
    waiting = make_job("gpt2")
    assert half_width(waiting, step_time(waiting, C), widths) > inside


@pytest.mark.parametrize(
    ("gpu", "gpus", "tag"),
    [
        ("h100-sxm", 512, "fitted"),
        ("h100-sxm", 16_384, "extrapolated"),
        ("h100-sxm", 10_000_000, "extrapolated"),
        ("rtx-3090", 1, "extrapolated"),
    ],
)
def test_the_tag_says_whether_runs_like_it_were_fitted(gpu, gpus, tag):
    assert evidence_of(gpu, float(gpus), "bf16", "1f1b", 4096) == tag


def test_eighty_percent_intervals_hold_seven_to_nine_of_ten_runs_left_out(scores):
    large = {family: score for family, score in scores.items() if score["runs"] >= 20}
    assert len(large) == 6
    for family, score in large.items():
        assert 0.7 <= score["coverage"] <= 0.9, family


def test_left_out_intervals_are_narrow_enough_to_use(scores):
    runs = [score["runs"] for score in scores.values()]
    widths = np.repeat([score["half_width"] for score in scores.values()], runs)
    assert np.median(widths) <= 0.2


def test_left_out_families_are_met_within_fifteen_percent_on_average(scores):
    assert np.mean([score["median_abs_error"] for score in scores.values()]) <= 0.15


def test_every_family_of_ten_runs_was_left_out_once(scores, published):
    names, counts = np.unique(published.family, return_counts=True)
    large = {
        str(name): int(count) for name, count in zip(names, counts, strict=True) if count >= 10
    }
    assert {family: score["runs"] for family, score in scores.items()} == large


@pytest.mark.parametrize(
    ("precision", "schedule", "seq_len"),
    [
        ("fp32", "1f1b", 4096),
        ("bf16", "zb-v", 4096),
        ("bf16", "1f1b", 1),
        ("bf16", "1f1b", 1 << 20),
    ],
)
def test_what_no_calibration_run_used_is_extrapolated(precision, schedule, seq_len):
    assert evidence_of("h100-sxm", 8.0, precision, schedule, seq_len) == "extrapolated"
