"""What goes wrong in a run: each is said in one line, and nothing is lost."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.train.tiny import (
    STEPS,
    at_call,
    ended,
    events_of,
    every_call,
    home,
    job,
    records_of,
    same_state,
    state_of,
    steps_of,
    told,
)
from tests.train.worlds import carry_out

from crore.train.engine import Engine
from crore.train.folder import CHECKPOINTS
from crore.train.health import Limits
from crore.train.history import gaps
from crore.train.job import Every
from crore.train.outcome import Outcome

FINISHED = Outcome(reason="finished", message="", exit_code=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def straight(root):
    """Return a run that nothing happens to."""
    made = job(root, "straight")
    assert carry_out(made) == FINISHED
    return made


@contextlib.contextmanager
def bad_gradients(calls: range, on: int, rank: int) -> Iterator[None]:
    """Make gradients of some steps of one rank NaN, as counted in this process."""

    def spoil(engine: Engine, call: int) -> None:
        if call in calls and rank == on:
            for _, parameter in engine.named_parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(torch.nan)

    with every_call(spoil):
        yield


@contextlib.contextmanager
def high_losses(calls: range, rank: int) -> Iterator[None]:
    """Make the losses of some steps thirty times as high."""
    del rank
    with every_call(lambda engine, call: engine.loss.total.mul_(30 if call in calls else 1)):
        yield


def nan_in(*calls, on=0):
    return functools.partial(bad_gradients, range(*calls), on)


@pytest.mark.parametrize("layout", [{}, {"dp_shard": 2}], ids=["one", "fsdp2"])
def test_one_bad_gradient_on_any_rank_skips_one_update(root, layout):
    every = Every(evaluation=0, checkpoint=1, sample=0)
    made = job(root, f"skip{len(layout)}", steps=4, every=every, keep=9, **layout)
    assert carry_out(made, nan_in(2, 3, on=len(layout))) == FINISHED
    (said,) = events_of(made, "skip")
    assert said.startswith("step 2: loss ")
    assert said.endswith("gradient norm nan: update skipped (1 in a row, 3 roll back)")
    assert gaps(records_of(made)) == []
    assert [step for step, *_ in steps_of(made)] == [1, 2, 3, 4]
    assert all(torch.isfinite(tensor).all() for tensor in state_of(made).values())


def test_several_in_a_row_roll_back_and_their_samples_are_set_aside(root):
    made = job(root, "back")
    assert carry_out(made, nan_in(6, 9)) == FINISHED
    (event,) = (e for e in told(made).events if e.what == "roll back")
    assert event.message.endswith("3 steps in a row: rolling back (1 of 3 within 1000 steps)")
    assert (event.step, event.first_sample, event.samples) == (4, 32, 32)
    assert [sample for _, sample, _, _ in steps_of(made)][3:6] == [24, 64, 72]
    assert len(steps_of(made)) == STEPS
    assert gaps(records_of(made)) == []


def test_a_roll_back_before_a_kill_is_the_same_after_it(root):
    straight, killed = job(root, "back-straight"), job(root, "back-killed")
    assert carry_out(straight, nan_in(6, 9)) == FINISHED

    @contextlib.contextmanager
    def both(rank: int) -> Iterator[None]:
        with nan_in(6, 9)(rank), at_call(10, lambda _: os.kill(os.getpid(), signal.SIGTERM)):
            yield

    assert carry_out(killed, both) == Outcome.asked(signal.SIGTERM)
    assert carry_out(killed) == FINISHED
    assert steps_of(killed) == steps_of(straight)
    assert same_state(killed, straight)
    assert gaps(records_of(killed)) == []


def test_bad_for_ever_stops_with_the_reason_and_can_go_on(root):
    made = job(root, "stop")
    outcome = carry_out(made, nan_in(6, 999))
    assert (outcome.reason, outcome.exit_code) == ("stopped", 1)
    assert "after 3 roll-backs within 1000 steps: lower the learning rate" in outcome.message
    assert ended(made) == "stopped"
    assert carry_out(made) == FINISHED
    assert gaps(records_of(made)) == []


def test_nothing_to_roll_back_to_stops(root):
    made = job(root, "nothing")

    @contextlib.contextmanager
    def lose(rank: int) -> Iterator[None]:
        with nan_in(1, 4)(rank), at_call(1, lambda _: spoil(made.folder)):
            yield

    outcome = carry_out(made, lose)
    assert (outcome.reason, outcome.exit_code) == ("stopped", 1)
    assert outcome.message.endswith("3 steps in a row, and no sound checkpoint to go back to")
    assert "checkpoint 0 is damaged" in events_of(made, "damaged checkpoint")[0]


def spoil(folder: Path) -> None:
    """Wait until a run's checkpoints are written, and cut the newest one short."""
    kept = folder / CHECKPOINTS
    while list(kept.glob("*.partial")) or not list(kept.glob("step-*")):
        time.sleep(0.001)
    newest = max(kept.glob("step-*"))
    for path in newest.glob("*.distcp"):
        os.truncate(path, path.stat().st_size // 2)


def test_a_spike_that_stays_rolls_back_and_one_that_passes_does_not(root):
    limits = Limits(armed_after=4, spike_steps=3)
    for calls, kinds in ((range(7, 8), ["note"]), (range(7, 10), ["note", "note", "roll back"])):
        made = job(root, f"spike{len(calls)}", health=limits)
        assert carry_out(made, functools.partial(high_losses, calls)) == FINISHED
        assert [e.what for e in told(made).events if "is above" in e.message][-3:] == kinds[-3:]
        assert gaps(records_of(made)) == []
        assert len(steps_of(made)) == STEPS


def test_no_checkpoint_is_taken_in_the_middle_of_a_spike(root):
    made = job(root, "calm", health=Limits(armed_after=4, spike_steps=9))
    assert carry_out(made, functools.partial(high_losses, range(7, 10))) == FINISHED
    assert [c.step for c in told(made).checkpoints] == [0, 4, 10, 12]


@contextlib.contextmanager
def small_files(calls: range, rank: int) -> Iterator[None]:
    """Let this process write no file above 100 kB during some steps, as a full disk would not."""
    del rank
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(_: Engine, call: int) -> None:
        now = 100_000 if call in calls else soft
        resource.setrlimit(resource.RLIMIT_FSIZE, (now, hard))

    try:
        with every_call(limit):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_save_without_room_is_said_and_the_next_one_works(root, straight):
    made = job(root, "full")
    assert carry_out(made, functools.partial(small_files, range(3, 7))) == FINISHED
    (said,) = events_of(made, "disk full")
    assert said == "checkpoint 4 not written: file too large; 0 kept"
    assert [c.step for c in told(made).checkpoints] == [0, 8, 12]
    assert steps_of(made) == steps_of(straight)


def test_a_disk_that_is_full_keeps_the_checkpoint_that_is_there(root, straight, tmp_path):
    if os.geteuid() or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(tmp_path)], check=False,
        capture_output=True,
    ).returncode:  # fmt: skip
        pytest.skip("only root can mount a small disk")
    filler = tmp_path / "filler"

    @contextlib.contextmanager
    def filled(rank: int) -> Iterator[None]:
        del rank

        def act(_: Engine, call: int) -> None:
            if call == 3:
                filler.write_bytes(bytes(1_000_000))
            if call == 6:
                filler.unlink()

        with every_call(act):
            yield

    try:
        made = replace(job(root, "tmpfs", keep=1), folder=tmp_path)
        assert carry_out(made, filled) == FINISHED
        (said,) = events_of(made, "disk full")
        assert said == "checkpoint 4 not written: no space left on device; 0 kept"
        assert [c.step for c in told(made).checkpoints] == [0, 8, 12]
        assert steps_of(made) == steps_of(straight)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_run_whose_last_checkpoint_finds_no_room_has_failed_and_goes_on_later(root, straight):
    made = job(root, "late")
    outcome = carry_out(made, functools.partial(small_files, range(7, 99)))
    assert (outcome.reason, outcome.exit_code) == ("failed", 1)
    assert outcome.message.startswith("the last checkpoint, of step 12, could not be written")
    assert carry_out(made) == FINISHED
    assert steps_of(made) == steps_of(straight)
    assert gaps(records_of(made)) == []


def test_a_checkpoint_cut_short_is_passed_over_for_the_one_before(root, straight):
    made = job(root, "cut")
    assert carry_out(replace(made, schedule=replace(made.schedule, steps=12))) == FINISHED
    spoil(made.folder)
    assert carry_out(made) == FINISHED
    (said,) = events_of(made, "damaged checkpoint")
    assert said.startswith("checkpoint 12 is damaged (__0_0.distcp: ")
    assert said.endswith("bytes); 8 restored")
    assert steps_of(made) == steps_of(straight)
    assert same_state(made, straight)
    assert gaps(records_of(made)) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_asked_to_end_it_saves_the_step_it_is_in(root, straight, number, code):
    made = job(root, f"asked{code}")
    outcome = carry_out(made, functools.partial(asked, number))
    assert outcome == Outcome(
        reason="signal", message=f"asked to end by {number.name}", exit_code=code
    )
    assert [c.step for c in told(made).checkpoints] == [0, 3]
    assert events_of(made, "signal") == [f"asked to end by {number.name}: saving"]
    assert ended(made) == "signal"
    assert carry_out(made) == FINISHED
    assert steps_of(made) == steps_of(straight)


@contextlib.contextmanager
def asked(number: signal.Signals, rank: int) -> Iterator[None]:
    """Send a signal in the third step."""
    del rank
    with at_call(3, lambda _: os.kill(os.getpid(), number)):
        yield
