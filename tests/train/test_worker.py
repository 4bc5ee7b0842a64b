"""One rank's work: what it reports, and that it lets go of what it holds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tests.train.tiny import home, job, told
from tests.train.worlds import carry_out

from crore.train import worker
from crore.train.data import Dataset, parse_sources, prepare
from crore.train.folder import LOG
from crore.train.log import RunLog
from crore.train.loop import Trainer
from crore.train.outcome import Outcome


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return home(tmp_path_factory.mktemp("home"))


def test_a_users_mistake_is_an_outcome_with_its_line(root):
    made = job(root, "missing")
    text = replace(made.text, sources=parse_sources(str(root / "nowhere")))
    outcome = carry_out(replace(made, text=text))
    assert (outcome.reason, outcome.exit_code) == ("failed", 2)
    assert outcome.message.startswith(f"no file or folder {root / 'nowhere'}")


@contextlib.contextmanager
def other_data(rank: int) -> Iterator[None]:
    """Let rank 1 read what others do not."""

    def prepared(*args: object, **settings: object) -> Dataset:
        data = prepare(*args, **settings)  # type: ignore[arg-type]
        data.key = f"{data.key}-{rank}"
        return data

    with mock.patch.object(worker, "prepare", prepared):
        yield


def test_ranks_that_read_different_data_all_say_so(root):
    outcome = carry_out(job(root, "different", dp_shard=2), other_data)
    assert outcome.exit_code == 2
    assert outcome.message.startswith("the ranks read different data (")


def test_a_world_of_another_size_is_refused_before_it_is_joined(root):
    made = job(root, "size", dp_shard=2)
    with mock.patch.dict("os.environ", clear=False):
        assert worker.work(made) == Outcome(
            reason="failed", exit_code=2,
            message="the plan is for 2 ranks and this world has 1: start 2 processes, or plan for "
            "1 (--gpus 1)",
        )  # fmt: skip


def test_files_and_threads_are_let_go_also_after_an_error(root, monkeypatch):
    made, close = job(root, "error"), RunLog.close
    closed: list[Path] = []

    def watched(log: RunLog) -> None:
        closed.append(log.path)
        close(log)

    monkeypatch.setattr(RunLog, "close", watched)
    monkeypatch.setattr(Trainer, "run", mock.Mock(side_effect=ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        carry_out(made)
    assert made.folder / LOG in closed
    assert not [thread for thread in threading.enumerate() if "hang" in thread.name]


def test_a_start_says_how_the_run_is_carried_out(root):
    made = job(root, "start", steps=2, dp_shard=2)
    assert carry_out(made).exit_code == 0
    start = told(made).start
    assert (start.model, start.world_size, start.steps, start.seed) == ("tiny", 2, 2, 0)
    assert start.layout["dp_shard"] == 2
    assert start.device == "cpu"
    assert told(made).end is not None


def test_a_log_that_holds_no_records_is_refused(root):
    made = job(root, "odd", steps=4)
    assert carry_out(made).exit_code == 0
    (made.folder / LOG).write_text("not mine\n")
    outcome = carry_out(replace(made, schedule=replace(made.schedule, steps=6)))
    assert outcome.exit_code == 2
    assert "run.jsonl:1" in outcome.message
