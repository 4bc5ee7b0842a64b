"""Pace, MFU and memory as measured, and against the plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.train import meters
from crore.train.meters import Pace, against, mfu, peak_memory, prediction_of, signed_percent

TIMES = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=80)


def paced(*times: float) -> Pace:
    """Return the pace after step times."""
    pace = Pace()
    for it in times:
        pace = pace.after(it)
    return pace


def test_the_first_step_counts_only_while_alone():
    assert paced(20.0).median_s == 20.0
    assert paced(20.0, 0.4).mean_s == 0.4
    assert paced(20.0, 0.4, 0.5).recent_s == (0.4, 0.5)


def test_one_stall_does_not_move_what_is_shown_but_moves_the_time_left():
    pace = paced(*[0.4] * 20, 4.0)
    assert pace.median_s == 0.4
    assert pace.eta_s(100) == pytest.approx(100 * (0.4 + 3.6 * (1 - 0.5 ** (1 / 8))))


def test_before_the_first_step_nothing_is_known():
    assert (Pace().median_s, Pace().eta_s(10)) == (0.0, None)


@given(TIMES)
def test_pace_lies_within_the_steps_and_looks_back_so_far(times):
    pace = paced(*times)
    slack = 1e-9 * max(times)
    assert min(times) - slack <= pace.mean_s <= max(times) + slack
    assert min(times) <= pace.median_s <= max(times)
    assert pace.steps == len(times)
    assert pace.recent_s == tuple((times[1:] or times)[-meters.WINDOW :])


def test_mfu_is_of_all_ranks_and_unknown_without_a_peak():
    assert mfu(33.4e6, 5000.0, 2.0e11, 2) == pytest.approx(0.4175)
    assert mfu(33.4e6, 5000.0, None, 2) is None


def test_memory_on_a_cpu_is_counted_or_that_of_the_process():
    counted = peak_memory("cpu", 2.1e8)
    assert (counted.bytes, counted.kind) == (2.1e8, "tensors")
    whole = peak_memory("cpu")
    assert whole.kind == "resident"
    assert whole.bytes > 5e6
    held = bytearray(64_000_000)
    assert peak_memory("cpu").bytes >= len(held)


def test_without_proc_the_process_is_asked_another_way(monkeypatch, tmp_path):
    told = meters.resident_bytes()
    monkeypatch.setattr(meters, "_STATUS", tmp_path / "none")
    assert 0.5 * told < meters.resident_bytes() < 2 * told


@pytest.mark.parametrize(
    ("measured", "text"),
    [(0.41, "+5.1 %"), (0.39, "+0.0 %"), (0.38999, "+0.0 %"), (0.35, "-10 %"), (0.78, "+100 %"),
     (0.4286, "+9.9 %"), (0.4289, "+10 %")],
)  # fmt: skip
def test_a_difference_is_a_signed_percentage(measured, text):
    assert signed_percent(against(measured, 0.39)) == text


def test_the_prediction_is_that_of_the_plans_record_its_memory_that_of_tensors():
    step = {"value": 0.4, "low": 0.3, "high": 0.5, "evidence": "fitted"}
    split = {"weights": 1.5e8, "activations": 5e7, "fragmentation": 1e7, "context": 2e9}
    told = prediction_of(
        {
            "step_time_s": step, "tokens_per_s": 5e3, "memory_bytes_per_gpu": sum(split.values()),
            "memory_split_bytes": split, "mfu": 0.4,
        }
    )  # fmt: skip
    assert (told.step_time_s, told.step_time_low_s, told.step_time_high_s) == (0.4, 0.3, 0.5)
    assert (told.tokens_per_s, told.memory_bytes, told.evidence) == (5e3, 2e8, "fitted")
