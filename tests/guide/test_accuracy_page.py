"""The accuracy page shows the left-out scores as they were measured."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_left_out_table_is_the_measured_one():
    scores = json.loads((ROOT / "benchmarks/left_out.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/guide/accuracy.md").read_text(encoding="utf-8")
    for family, s in scores.items():
        row = (
            f"| {family} | {s['runs']} | {100 * s['median_abs_error']:.1f} "
            f"| {100 * s['p90_abs_error']:.1f} | {100 * s['bias']:+.1f} "
            f"| {100 * s['within_10_percent']:.0f} | {100 * s['coverage']:.0f} "
            f"| {100 * s['half_width']:.1f} |"
        )
        assert row in page
    mean = sum(s["median_abs_error"] for s in scores.values()) / len(scores)
    assert f"| mean of medians | | {100 * mean:.1f} |" in page


def test_left_out_families_meet_the_projects_bar():
    """Mean of medians at most 15 %; of families with 20 runs or more, 70-90 % inside, ±20 %."""
    scores = json.loads((ROOT / "benchmarks/left_out.json").read_text(encoding="utf-8"))
    assert sum(s["median_abs_error"] for s in scores.values()) / len(scores) <= 0.15
    large = [s for s in scores.values() if s["runs"] >= 20]
    assert all(0.7 <= s["coverage"] <= 0.9 for s in large)
    runs = sum(s["runs"] for s in large)
    narrow = sum(s["runs"] for s in large if s["half_width"] <= 0.2)
    assert narrow / runs > 0.5
