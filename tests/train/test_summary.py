"""The end of a run: the verdict first, then against the plan, then what next."""

from __future__ import annotations

from dataclasses import replace

from tests.train.feed import END, EVAL, START, run_of

from crore.train.records import Sample, Step
from crore.train.summary import summary
from crore.train.tally import Tally, tally_of

INDENT = " " * 12
STEP_TIME = "0.410 s a step (plan 0.390 s, +5.1 %), within its 80 % interval of 0.330 to 0.460 s"
ENDED = replace(END, step=100, samples=800, tokens=204_800)


def test_a_finished_run_is_held_against_its_plan():
    tally = tally_of([START, EVAL, *run_of(1, 100), ENDED])
    told = summary(
        tally, {"out/run.jsonl": "every step", "out/checkpoint": "the model"},
        {"crore train this_machine --steps 200": "goes on from here"},
    )  # fmt: skip
    assert told.split("\n") == [
        "TRAINED  100 steps, 205k tokens, 41.0 s",
        "learned     validation 3.300 -> 1.320 bits/byte",
        "speed       5k tokens/s (plan 5.25k, -4.9 %)",
        INDENT
        + "0.410 s a step (plan 0.390 s, +5.1 %), within its 80 % interval of 0.330 to 0.460 s",
        "memory      215 MB (plan 210 MB, +2.4 %), the fullest rank",
        "sample      The function returns",
        "            a list.",
        "wrote       out/run.jsonl   every step",
        "            out/checkpoint  the model",
        "next        crore train this_machine --steps 200  goes on from here",
    ]


def test_a_run_that_stops_says_why_and_where():
    end = replace(ENDED, step=40, reason="stopped", message="loss not finite 3 times in a row")
    first = summary(tally_of([START, *run_of(1, 40), end])).split("\n")[0]
    assert first == (
        "STOPPED  40 of 100 steps, 205k tokens, 41.0 s; loss not finite 3 times in a row"
    )
    resumed = [START, replace(START, step=30), *run_of(31, 40), replace(end, reason="signal")]
    assert "41.0 s since it went on; loss" in summary(tally_of(resumed))


def test_a_slower_step_is_outside_and_a_better_evaluation_is_named():
    slow = [replace(it, step_time_s=0.5) if isinstance(it, Step) else it for it in run_of(1, 19)]
    worse = replace(EVAL, step=20, bits_per_byte=1.9)
    told = summary(tally_of([START, EVAL, *slow, worse, ENDED]))
    assert "+28 %), outside its 80 % interval" in told
    assert "3.300 -> 1.900 bits/byte (best 1.500 after step 10)" in told


def test_a_single_evaluation_is_one_value():
    told = summary(tally_of([START, EVAL, ENDED]))
    assert f"validation {EVAL.bits_per_byte:.3f} bits/byte" in told
    assert "->" not in told


def test_without_a_plan_or_a_step_only_what_is_known_is_said():
    bare = [replace(START, prediction=None), *run_of(1, 3)]
    assert "plan" not in summary(tally_of(bare))
    assert summary(Tally(sample=Sample(step=0, prompt="a", text="b"))).startswith(
        "RUNNING  0 steps"
    )
