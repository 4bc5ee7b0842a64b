"""Killed at any moment, a run goes on: every sample once, the end as if nothing had happened."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.train.tiny import (
    crore,
    events_of,
    home,
    job,
    records_of,
    same_state,
    steps_of,
    told,
    words,
)
from tests.train.worlds import carry_out, nothing, ranks_of, started
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented

from crore.errors import InputError
from crore.train.history import gaps
from crore.train.job import Every, Job
from crore.train.outcome import Outcome

FINISHED = Outcome(reason="finished", message="", exit_code=0)
EVERY = Every(evaluation=0, checkpoint=1, sample=0)
"""A checkpoint is being written most of the time."""
JITTER_S = 0.06
"""A few steps and a checkpoint."""


def moments(count: int, steps: int, seed: int) -> list[tuple[int, float]]:
    """Return (step, seconds after it) of kills, each beyond the one before."""
    chance = random.Random(seed)  # noqa: S311
    at = sorted(chance.sample(range(1, steps - 2), count))
    return [(step, chance.uniform(0, JITTER_S)) for step in at]


def reached(made: Job, step: int) -> bool:
    """Return whether a run has done so many steps."""
    with contextlib.suppress(InputError, IndexError):
        return told(made).steps[-1].step >= step
    return False


def wait_for(made: Job, step: int, alive: Callable[[], bool]) -> None:
    """Wait until a run that goes on has done so many steps."""
    while not reached(made, step):
        # It may have done them, and ended, since it was looked at.
        assert alive() or reached(made, step), f"ended before step {step}"
        time.sleep(0.005)


def killed_at(made: Job, step: int, after_s: float) -> None:
    """Start a job in a process of its own and kill it, wherever it is then."""
    with tempfile.TemporaryDirectory() as folder:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        ranks = started(made, Path(folder), store.port, nothing)
        try:
            wait_for(made, step, lambda: all(rank.is_alive() for rank in ranks))
            time.sleep(after_s)
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()


def survives(root: Path, name: str, kills: int, steps: int, **layout: Any) -> None:
    """Kill a run so often, then let it end, and hold it against one that nothing happened to."""
    straight = job(root, f"{name}-straight", steps=steps, every=EVERY, **layout)
    made = job(root, name, steps=steps, every=EVERY, **layout)
    assert carry_out(straight) == FINISHED
    for step, after_s in moments(kills, steps, seed=kills):
        killed_at(made, step, after_s)
    assert carry_out(made) == FINISHED
    assert gaps(records_of(made)) == []
    assert steps_of(made) == steps_of(straight)
    assert same_state(made, straight)
    assert not list((made.folder / "checkpoint").glob("*.partial"))
    assert events_of(made, "damaged checkpoint", "disk full") == []


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return home(tmp_path_factory.mktemp("home"))


def test_killed_five_times_it_ends_as_if_nothing_had_happened(root):
    survives(root, "five", 5, 40)


@pytest.mark.drill
def test_killed_twenty_times_it_ends_as_if_nothing_had_happened(root):
    survives(root, "twenty", 20, 120)


@pytest.mark.drill
def test_both_ranks_killed_ten_times_they_end_as_if_nothing_had_happened(root):
    survives(root, "both", 10, 80, dp_shard=2)


def going_on(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


def command(root: Path, out: str) -> list[str]:
    flags = {"steps": 500, "gpus": 2, "fix": "tp=1,pp=1", "checkpoint_every": 1, "warmup": 1}
    return crore(*words(root, out, **flags))


@pytest.mark.drill
def test_the_launcher_and_its_ranks_are_killed_and_the_same_command_goes_on(root):
    straight, made = job(root, "cli-straight"), job(root, "cli")
    subprocess.run(command(root, "cli-straight"), check=True, capture_output=True)
    chance = random.Random(1)  # noqa: S311
    for number, step in enumerate((20, 90, 160, 230)):
        process = subprocess.Popen(command(root, "cli"), stdout=subprocess.DEVNULL)
        wait_for(made, step, functools.partial(going_on, process))
        time.sleep(chance.uniform(0, JITTER_S))
        ranks = ranks_of(process.pid)
        assert len(ranks) == 2
        if number == 1:  # one rank alone: the launcher starts both again
            os.kill(ranks[1], signal.SIGKILL)
            wait_for(made, step + 20, functools.partial(going_on, process))
            ranks = ranks_of(process.pid)
        process.kill()  # the launcher alone in the last round: its ranks save and leave
        for rank in ranks if number < 3 else []:
            os.kill(rank, signal.SIGKILL)
        process.wait()
    subprocess.run(command(root, "cli"), check=True, capture_output=True)
    assert gaps(records_of(made)) == []
    assert steps_of(made) == steps_of(straight)
    assert same_state(made, straight)
    assert len(events_of(made, "lost rank")) == 1
    assert len(events_of(made, "signal")) == 1
