"""Random requests, missions and command lines, valid or not: an answer or one clear line.

`make test` runs EVERY_DAY cases, `make drills` DRILL others. One case alone, by its seed:
`.venv/bin/python -m tests.fuzz 17`.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Sequence

import pytest
from tests.fuzz.judge import Outcome, judged

EVERY_DAY = range(150)
DRILL = range(1_000, 3_000)
PROCESSES = 2


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return how many cases ended how, the slowest five, the highest peak, and what is wrong."""
    codes = Counter(outcome.code for outcome in outcomes)
    slowest = sorted(outcomes, key=lambda outcome: -outcome.cpu_s)[:5]
    highest = max(outcomes, key=lambda outcome: outcome.peak_bytes)
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    ends = ", ".join(f"exit {code}: {count:,}" for code, count in sorted(codes.items()))
    head = f"fuzz: {len(outcomes):,} cases, {ends}; {len(wrong)} wrong"
    took = f"  {sum(outcome.cpu_s for outcome in outcomes):.0f} CPU s in all"
    peak = f"  highest peak {highest.peak_bytes / 1e6:.0f} MB, seed {highest.seed}; the slowest:"
    lines = [head, took, peak, *(f"  {it}" for it in slowest), *(f"WRONG {it}" for it in wrong)]
    return "\n".join(lines)


def test_an_answer_or_one_clear_line(capsys):
    outcomes = [judged(seed) for seed in EVERY_DAY]
    text = summary(outcomes)
    with capsys.disabled():
        print(f"\n{text}")
    assert not any(outcome.wrong for outcome in outcomes), text


@pytest.mark.drill
def test_an_answer_or_one_clear_line_many_times(capsys):
    # Spawned, not forked: each process has only its own peak memory.
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        outcomes = pool.map(judged, DRILL, chunksize=10)
    text = summary(outcomes)
    with capsys.disabled():
        print(f"\n{text}")
    assert not any(outcome.wrong for outcome in outcomes), text
