"""Records as lines: what is said, how wide it is, and that no text moves the cursor."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.train.feed import CHECKPOINT, EVAL, SAMPLE, START, STEP, run_of

from crore.train import text
from crore.train.records import Event
from crore.train.tally import Tally, tally_of


def test_the_start_says_what_trains_on_what_and_the_plan():
    what, plan = text.start_lines(START)
    assert what == "train       small (5.31M parameters) on 2 x cpu, fp32; dp_shard 2; 100 steps"
    assert plan.startswith(
        "plan        step 0.390 s (0.330 to 0.460, 80 %; measured), 5.25k tokens"
    )
    assert plan.endswith("tokens/s, 210 MB per rank")
    alone = replace(START, steps=9, prediction=None, world_size=1, layout={"tp": 1}, step=4)
    [what] = text.start_lines(alone)
    assert what.endswith(" on cpu, fp32; not split; 9 steps, goes on after step 4")


def test_a_step_is_one_line_against_the_plan():
    tally = tally_of([START, *run_of(1, 20)])
    assert text.step_line(tally) == (
        "step 20/100       loss 4.250  1.417 bits/byte  5k tokens/s  "
        "0.410 s a step (plan 0.390 s, +5.1 %)  32.8 s left"
    )
    assert text.step_line(tally_of([START])) == ""


def test_what_is_unknown_is_left_out_and_what_is_known_is_said():
    bare = replace(START, prediction=None)
    tally = tally_of([bare, replace(STEP, bits_per_byte=None, mfu=0.382, loss=float("nan"))])
    line = text.step_line(tally)
    assert "loss nan  5k tokens/s  MFU 38.2 %  0.410 s a step  " in line
    assert "plan" not in line


def test_the_whole_process_is_not_held_against_the_plan():
    resident = replace(START, memory_kind="resident")
    assert text.memory(tally_of([resident, STEP])) == "215 MB with Python and its libraries"
    assert text.memory(tally_of([START, STEP])) == "215 MB (plan 210 MB, +2.4 %)"


def test_the_block_shows_learning_speed_and_memory():
    tally = tally_of([START, EVAL, *run_of(1, 10)])
    assert text.status_lines(tally) == [
        "loss 4.500  1.500 bits/byte (validation 1.500)  gradient 1.5  lr 0.001",
        "5k tokens/s  0.410 s a step (plan 0.390 s, +5.1 %)",
        "memory 215 MB (plan 210 MB, +2.4 %)  checkpoint of step 10",
    ]
    assert text.status_lines(Tally()) == []


def test_what_happens_is_a_line_behind_its_name():
    skip = Event(step=7, what="skip", message="gradient not finite")
    damaged = Event(step=7, what="damaged checkpoint", message="step-7: wrong checksum")
    assert text.event_lines(skip) == ["skip        step 7: gradient not finite"]
    assert text.event_lines(damaged) == ["damaged checkpoint  step 7: step-7: wrong checksum"]
    assert text.eval_lines(EVAL) == ["validation  step 0: 3.300 bits/byte, loss 9.000"]
    assert text.checkpoint_lines(CHECKPOINT) == [
        "checkpoint  step 0: 64.0 MB in 800 ms, training waited 20.0 ms"
    ]


def test_a_sample_keeps_its_lines_up_to_a_few():
    assert text.sample_lines(SAMPLE) == [
        "sample      The function returns", "            a list."
    ]  # fmt: skip
    long = text.sample_lines(replace(SAMPLE, text="\n".join("abcdefghijkl")))
    assert len(long) == text.SAMPLE_LINES + 1
    assert long[-1].strip() == "…"
    assert len("".join(text.sample_lines(replace(SAMPLE, text="x" * 9000)))) < 700


@given(st.text(max_size=80), st.integers(0, 200))
def test_no_text_of_a_model_moves_the_cursor_or_leaves_the_screen(written, columns):
    lines = text.fitted(text.sample_lines(replace(SAMPLE, text=written)), columns)
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= max(columns, 24) for line in lines)
