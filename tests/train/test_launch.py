"""Ranks that are lost, stopped or asked to end, under the real launcher."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from tests.train.tiny import events_of, home, job, records_of, same_state, steps_of, told
from tests.train.worlds import carry_out, ranks_of

from crore.errors import InputError
from crore.train.data import parse_sources
from crore.train.history import gaps
from crore.train.job import Every, Job
from crore.train.launch import launch
from crore.train.outcome import Outcome

FINISHED = Outcome(reason="finished", message="", exit_code=0)
STEPS = 200
"""Of a run that is struck: it is not over before, however late one strikes."""
ENDLESS = 100_000
"""Steps of a run that is asked to end: it cannot be over before it hears of it."""
Strike = tuple[int, signal.Signals, int | None]
"""After so many steps, send this signal to this rank, or to this process for None."""


@contextlib.contextmanager
def strikes(made: Job, todo: Sequence[Strike]) -> Iterator[None]:
    """Strike from a thread while the run goes on."""
    over = threading.Event()

    def watch() -> None:
        for step, number, rank in todo:
            while not over.is_set() and not _reached(made, step):
                time.sleep(0.01)
            if not over.is_set():
                os.kill(os.getpid() if rank is None else ranks_of(os.getpid())[rank], number)
            time.sleep(1)  # it takes effect

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _reached(made: Job, step: int) -> bool:
    with contextlib.suppress(InputError, IndexError):
        alive = len(ranks_of(os.getpid())) == made.split.ranks
        return alive and told(made).steps[-1].step >= step
    return False


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return home(tmp_path_factory.mktemp("home"))


@pytest.mark.drill
def test_a_killed_and_a_stopped_rank_are_named_and_all_goes_on_to_the_last_bit(root, capfd):
    every = Every(evaluation=0, checkpoint=10, sample=0)
    straight, struck = (
        job(
            root,
            out,
            steps=STEPS,
            dp_shard=2,
            hang_s=12.0 if out == "struck" else 120.0,
            every=every,
        )
        for out in ("straight", "struck")
    )
    assert carry_out(straight) == FINISHED
    with strikes(struck, [(13, signal.SIGKILL, 1), (31, signal.SIGSTOP, 0)]):
        assert launch(struck, port=0, restarts=3) == FINISHED
    killed, stopped = events_of(struck, "lost rank")
    assert killed == (
        "rank 1 was killed by SIGKILL: all ranks start again from the last checkpoint "
        "(restart 1 of 3)"
    )
    assert stopped.startswith("rank 0 hung: no sign for ")
    assert "rank 1 waits in " in stopped
    assert stopped.endswith("(restart 2 of 3)")
    assert steps_of(struck) == steps_of(straight)
    assert same_state(struck, straight)
    assert gaps(records_of(struck)) == []
    said = capfd.readouterr().err.splitlines()
    assert said == [f"crore: {killed}", f"crore: {stopped}"]


def test_a_mistake_that_every_rank_finds_is_one_outcome_and_no_restart(root, capfd):
    made = job(root, "mistake", dp_shard=2)
    text = replace(made.text, sources=parse_sources(str(root / "nowhere")))
    outcome = launch(replace(made, text=text), port=0, restarts=3)
    assert (outcome.reason, outcome.exit_code) == ("failed", 2)
    assert outcome.message.startswith(f"no file or folder {root / 'nowhere'}")
    assert capfd.readouterr().err == ""


def test_asked_to_end_the_ranks_leave_in_order_and_it_gives_up_after_its_restarts(root, capfd):
    made = job(root, "asked", steps=ENDLESS, dp_shard=2)
    with strikes(made, [(5, signal.SIGTERM, None)]):
        assert launch(made, port=0, restarts=0) == Outcome.asked(signal.SIGTERM)
    done = told(made).steps[-1].step
    assert told(made).checkpoints[-1].step == done < ENDLESS
    with strikes(made, [(done + 3, signal.SIGKILL, 0)]):
        outcome = launch(made, port=0, restarts=0)
    assert outcome == Outcome(
        reason="failed", exit_code=1,
        message="rank 0 was killed by SIGKILL; gave up after 0 restarts: the same command goes on",
    )  # fmt: skip
    assert capfd.readouterr().err == ""
