"""The loop: what is saved, told and evaluated between steps."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.train.tiny import BATCH, STEPS, at_call, home, job, same_state, steps_of, told
from tests.train.worlds import carry_out

from crore.train.folder import CHECKPOINTS
from crore.train.job import Every
from crore.train.outcome import Outcome
from crore.train.schedule import parse_ramp

FINISHED = Outcome(reason="finished", message="", exit_code=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return home(tmp_path_factory.mktemp("home"))


def test_every_checkpoint_evaluation_and_sample_that_is_due_is_told_once(root):
    made = job(root, "due", every=Every(evaluation=5, checkpoint=1, sample=3), keep=2)
    assert carry_out(made) == FINISHED
    run = told(made)
    assert [it.step for it in run.checkpoints] == list(range(STEPS + 1))
    assert [it.step for it in run.evals] == [0, 5, 10, 12]
    assert [it.step for it in run.samples] == [3, 6, 9, 12]
    for it in run.checkpoints:
        assert 0 < it.blocked_s <= it.write_s
        assert it.bytes > 1e6
        assert it.path == f"{CHECKPOINTS}/step-{it.step:08d}"
    kept = sorted(path.name for path in (made.folder / CHECKPOINTS).iterdir())
    assert kept == ["step-00000011", "step-00000012"]


def test_a_step_that_is_saved_already_is_not_saved_again_on_leaving(root):
    made = job(root, "once")
    with at_call(4, lambda _: os.kill(os.getpid(), signal.SIGTERM)):
        assert carry_out(made) == Outcome.asked(signal.SIGTERM)
    assert [it.step for it in told(made).checkpoints] == [0, 4]
    names = sorted(path.name for path in (made.folder / CHECKPOINTS).iterdir())
    assert names == ["step-00000000", "step-00000004"]


class Gone(Exception):
    """The process ends here."""


@contextlib.contextmanager
def ending(call: int) -> Iterator[None]:
    """End a run by an error, as a process that is killed in this step."""

    def end(_: object) -> None:
        raise Gone

    with at_call(call, end), pytest.raises(Gone):
        yield


def test_a_run_that_ends_in_its_first_step_begins_again(root):
    straight, made = job(root, "straight"), job(root, "first")
    assert carry_out(straight) == FINISHED
    with ending(1):
        carry_out(made)
    assert carry_out(made) == FINISHED
    assert steps_of(made) == steps_of(straight)
    assert same_state(made, straight)
    assert [it.step for it in told(made).evals] == [0, 12]
    assert not (made.folder / CHECKPOINTS / "step-00000000-2").exists()


def test_an_evaluation_is_the_same_whatever_the_batch(root):
    lines = []
    for size in (8, 3, 16):
        ramp = parse_ramp("", size)
        made = job(root, f"rows{size}", steps=1, ramp=ramp)
        made = replace(made, text=replace(made.text, evaluation_rows=BATCH + 3))
        assert carry_out(made) == FINISHED
        lines.append(told(made).evals[0])
    assert len({(it.tokens, it.bytes) for it in lines}) == 1
    assert [it.loss for it in lines] == pytest.approx([lines[0].loss] * 3, rel=1e-6)


def test_a_batch_ramp_is_what_the_log_tells(root):
    made = job(root, "ramp", steps=5, ramp=parse_ramp("2:2:8", BATCH))
    assert carry_out(made) == FINISHED
    steps = told(made).steps
    assert [it.samples for it in steps] == [2, 4, 6, 8, 8]
    assert [it.first_sample for it in steps] == [0, 2, 6, 12, 20]
    assert [it.tokens for it in steps] == [it.samples * made.seq_len for it in steps]
