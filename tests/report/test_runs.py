"""What a training run becomes on its page."""

from __future__ import annotations

from typing import Any

from crore.report.runs import MOST_POINTS, run_section

Record = dict[str, Any]
PREDICTION = {
    "step_time_s": 0.2, "step_time_low_s": 0.17, "step_time_high_s": 0.23, "tokens_per_s": 10_000.0,
    "memory_bytes": 3e8, "evidence": "measured",
}  # fmt: skip


def lines(
    steps: int, *, prediction: Record | None = PREDICTION, took_s: float = 0.22
) -> list[Record]:
    """Return the records of a run of so many steps."""
    start: Record = {
        "kind": "start", "step": 0, "steps": steps, "model": "nano", "parameters": 1_000_000,
        "world_size": 2, "prediction": prediction, "memory_kind": "tensors",
    }  # fmt: skip
    walked = [
        {
            "kind": "step", "step": k, "loss": 8 / k**0.1, "bits_per_byte": 3 / k**0.1,
            "tokens": 2048, "tokens_per_s": 2048 / took_s, "step_time_s": took_s,
            "memory_bytes": 3.1e8,
        }
        for k in range(1, steps + 1)
    ]  # fmt: skip
    held = [{"kind": "eval", "step": k, "loss": 9.0 - k / steps, "bits_per_byte": 3.0}
            for k in (0, steps)]  # fmt: skip
    told = [{"kind": "event", "step": 3, "what": "lost world", "message": "world 1 left"}]
    end = {"kind": "end", "reason": "finished", "message": "", "memory_bytes": 3.2e8}
    return [start, *walked, *held, *told, end]


def test_a_run_says_what_it_learned_and_survived():
    facts = {it[0]: it[1] for it in run_section(lines(20))["facts"]}
    assert facts["model"] == "nano"
    assert facts["steps"] == "20"
    assert facts["tokens"] == "41k"
    assert facts["held-out loss"] == "8.000"
    assert facts["failures survived"] == "1"
    assert facts["ended"] == "finished"


def test_predicted_stands_beside_measured():
    rows = {row[0]: row for row in run_section(lines(20))["checks"]["rows"]}
    assert rows["a step (median)"][1:4] == ["200 ms", "220 ms", "+10.0 %"]
    assert rows["a step (median)"][4].startswith("within")
    assert rows["tokens a second"][3] == "-6.9 %"
    assert rows["memory"][3] == "+6.7 %"


def test_a_step_beyond_the_range_is_said_to_be():
    [row, *_] = run_section(lines(20, took_s=0.5))["checks"]["rows"]
    assert row[4].startswith("outside")


def test_a_run_without_a_plan_has_nothing_to_check():
    found = run_section(lines(20, prediction=None))
    assert found["checks"]["rows"] == []
    assert [plot["key"] for plot in found["plots"]] == ["loss", "bits", "speed"]


def test_curves_are_thinned_and_keep_their_ends():
    [loss, *_] = run_section(lines(5000))["plots"]
    points = loss["series"][0]["points"]
    assert len(points) <= MOST_POINTS + 1
    assert points[0][0] == 1
    assert points[-1][0] == 5000


def test_axes_hold_the_curves():
    for plot in run_section(lines(300))["plots"]:
        for line in plot["series"]:
            for step, value in line["points"]:
                assert plot["x"]["domain"][0] <= step <= plot["x"]["domain"][1]
                assert plot["y"]["domain"][0] <= value <= plot["y"]["domain"][1]


def test_what_is_not_finite_is_left_out_of_a_curve():
    told = lines(20)
    told[5]["loss"] = float("nan")
    [loss, *_] = run_section(told)["plots"]
    assert [step for step, _ in loss["series"][0]["points"]] == [k for k in range(1, 21) if k != 5]


def test_a_run_that_has_not_begun_has_no_curves():
    found = run_section(lines(3)[:1])
    assert found["plots"] == []
    assert {it[0]: it[1] for it in found["facts"]}["ended"] == "not yet"
