"""A tally holds what is to be shown, and forgets what a roll back takes back."""

from __future__ import annotations

from dataclasses import replace

from tests.train.feed import END, EVAL, START, run_of

from crore.train.records import Event
from crore.train.tally import Tally, tally_of

BACK = Event(step=10, what="roll back", message="spike", first_sample=80, samples=80)


def test_a_tally_holds_the_last_of_each_and_every_evaluation():
    tally = tally_of([START, EVAL, *run_of(1, 25)])
    assert tally.done == 25
    assert tally.steps_left == 75
    assert [it.step for it in tally.evals] == [0, 10, 20]
    assert tally.checkpoint is not None
    assert tally.sample is not None
    assert (tally.checkpoint.step, tally.sample.step, tally.pace.steps) == (20, 20, 25)
    assert tally.peak_bytes == 215e6


def test_a_roll_back_forgets_what_came_after():
    tally = tally_of([START, EVAL, *run_of(1, 25), BACK])
    assert (tally.done, tally.step) == (10, None)
    assert [it.step for it in tally.evals] == [0, 10]


def test_a_resume_keeps_the_evaluations_and_begins_a_new_pace():
    tally = tally_of([START, EVAL, *run_of(1, 25), replace(START, step=20)])
    assert (tally.done, tally.pace.steps, tally.end) == (20, 0, None)
    assert [it.step for it in tally.evals] == [0, 10, 20]


def test_the_end_brings_the_fullest_ranks_peak():
    tally = tally_of([START, *run_of(1, 5), replace(END, step=5, memory_bytes=3e8)])
    assert (tally.done, tally.peak_bytes) == (5, 3e8)
    assert Tally().steps_left == 0
