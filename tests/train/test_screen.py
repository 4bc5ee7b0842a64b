"""What a person sees: a block on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.train.feed import CHECKPOINT, END, EVAL, START, nth_step, run_of, tell

from crore.train.records import Event
from crore.train.screen import LiveDisplay, PlainDisplay, Screen, make_screen

ENDED = replace(END, step=100, samples=800, tokens=204_800)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "30")


def steps_shown(out: io.StringIO) -> list[str]:
    """Return the step lines that were written."""
    return [line for line in out.getvalue().splitlines() if line.startswith("step ")]


def test_plain_lines_come_at_each_twentieth_of_a_short_run(clock):
    out = io.StringIO()
    screen = Screen(PlainDisplay(out, clock))
    tell(screen, START, *(nth_step(n) for n in range(1, 101)))
    assert len(steps_shown(out)) == 20
    assert steps_shown(out)[0].startswith("step 5/100 ")


def test_plain_lines_of_a_long_run_come_every_ten_seconds_then_ever_less(clock):
    out = io.StringIO()
    screen = Screen(PlainDisplay(out, clock))
    tell(screen, replace(START, steps=10**7))
    for n in range(1, 7201):
        clock.now_s += 1
        screen.step(nth_step(n))
    shown = len(steps_shown(out))
    assert 100 + 5400 / 72 < shown < 360  # every 10 s would be 720
    first = [int(line.split()[1].partition("/")[0].replace(",", "")) for line in steps_shown(out)]
    assert first[:3] == [10, 20, 30]


def test_plain_lines_hold_all_that_happens_and_no_drawing(clock):
    out = io.StringIO()
    screen = Screen(PlainDisplay(out, clock), then={"crore chat": "talks to it"})
    skip = Event(step=10, what="skip", message="gradient not finite")
    tell(screen, START, EVAL, *run_of(1, 10), skip, ENDED)
    screen.close()
    told = out.getvalue()
    for word in ("train  ", "plan  ", "validation  ", "sample  ", "checkpoint  ", "skip  "):
        assert f"\n{word}" in f"\n{told}"
    assert "\nTRAINED  100 steps" in told
    assert told.endswith("next        crore chat  talks to it\n")
    assert told.replace("…", "").isascii()
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) <= 120


def test_a_reader_that_left_does_not_end_the_training(clock):
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    tell(Screen(PlainDisplay(Gone(), clock)), START, *run_of(1, 10), ENDED)
    closed = io.StringIO()
    closed.close()
    tell(Screen(PlainDisplay(closed, clock)), START, ENDED)


def test_what_the_stream_cannot_write_is_replaced(clock):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    event = Event(step=0, what="note", message="naïve ☃")
    tell(Screen(PlainDisplay(stream, clock)), START, event)
    assert "na?ve ?" in raw.getvalue().decode("ascii")


def test_a_terminal_shows_a_block_twice_a_second_at_most(clock):
    out = Terminal()
    screen = Screen(LiveDisplay(out, clock))
    tell(screen, START)
    for n in range(1, 101):
        clock.now_s += 0.1
        screen.step(nth_step(n))
    screen.close()
    drawn = out.getvalue()
    assert 15 <= drawn.count("gradient") <= 21
    assert "━" in drawn
    assert "plan 0.390 s, +5.1 %" in drawn
    assert drawn.endswith("\x1b[?25h") or drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_lines_and_the_summary_stand_on_a_terminal_too(clock):
    out = Terminal()
    tell(Screen(LiveDisplay(out, clock)), START, EVAL, nth_step(1), CHECKPOINT, ENDED)
    told = out.getvalue()
    assert "validation  step 0: 3.300 bits/byte" in told
    assert told.rindex("TRAINED") > told.rindex("━")


def test_the_stream_decides_and_quiet_is_nothing():
    assert make_screen(Terminal(), quiet=True) == []
    [live], [plain] = make_screen(Terminal()), make_screen(io.StringIO())
    assert isinstance(live._display, LiveDisplay)
    assert isinstance(plain._display, PlainDisplay)


def test_a_resumed_run_counts_from_its_first_evaluation(clock):
    from crore.train.tally import tally_of

    out = io.StringIO()
    before = tally_of([START, EVAL, *run_of(1, 20)])
    screen = Screen(PlainDisplay(out, clock), tally=before)
    tell(screen, replace(START, step=20), *run_of(21, 100), ENDED)
    assert "validation 3.300 -> 1.320 bits/byte" in out.getvalue()


def test_plain_lines_do_not_import_rich():
    script = (
        "import io, sys\nfrom crore.train.screen import make_screen\n"
        "make_screen(io.StringIO())\nassert not {'rich', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
