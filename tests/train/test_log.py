"""run.jsonl reads as one uninterrupted history, wherever a run was killed, resumed, rolled back."""

from __future__ import annotations

import contextlib
import errno
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.feed import CHECKPOINT, END, EVAL, START, nth_step, run_of, tell

from crore.errors import InputError
from crore.train.history import gaps, read_run
from crore.train.log import RunLog
from crore.train.records import Event, Start

ROOT = Path(__file__).parents[2]
SKIP = Event(step=7, what="skip", message="gradient not finite; update left out")


def logged(path: Path, *records) -> RunLog:
    """Return a log, still open, that was told records."""
    log = RunLog(path)
    tell(log, *records)
    return log


def test_each_record_is_a_line_at_once(tmp_path):
    path = tmp_path / "run.jsonl"
    log = logged(path, START, EVAL, *run_of(1, 3))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["start", "eval", *["step"] * 3]
    assert json.loads(lines[0])["schema"] == "crore.run/1"
    log.close()


def test_what_is_told_is_what_is_read(tmp_path):
    told = [START, EVAL, *run_of(1, 10), SKIP, replace(END, step=10)]
    logged(tmp_path / "run.jsonl", *told).close()
    run = read_run(tmp_path / "run.jsonl")
    assert list(run.records) == told
    assert (run.start, run.end, run.events) == (START, told[-1], (SKIP,))
    assert [len(run.steps), len(run.evals), len(run.samples), len(run.checkpoints)] == [10, 2, 1, 1]
    assert gaps(run.records) == []


def test_a_new_run_replaces_the_old_one(tmp_path):
    path = tmp_path / "run.jsonl"
    logged(path, START, *run_of(1, 5)).close()
    logged(path, START, nth_step(1)).close()
    assert len(read_run(path).records) == 2


@settings(max_examples=40)
@given(lives=st.lists(st.tuples(st.integers(0, 25), st.integers(0, 30), st.booleans()), max_size=6))
def test_a_killed_and_resumed_run_reads_as_one(lives):
    """Each life: steps done, bytes of a torn line left behind, and whether it rolled back once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        log = logged(path, START, EVAL, *run_of(1, 12))
        saved, step, aside = {0: 0, 10: 0}, 12, 0
        for more, torn, rolls in lives:
            log.close()
            with path.open("ab") as file:
                file.write('{"kind":"step","ste…'.encode()[:torn])
            base = max(saved)
            aside = saved[base]
            log = logged(path, replace(START, step=base))
            if rolls and base:
                seen = 8 * (more + 1)
                doomed = [moved(base + 1 + i, aside) for i in range(more + 1)]
                back = Event(step=base, what="roll back", message="loss spike",
                             first_sample=8 * base + aside, samples=seen)  # fmt: skip
                tell(log, *doomed, back)
                aside += seen
            for step in range(base + 1, base + more + 1):
                tell(log, moved(step, aside))
                if step % 10 == 0:
                    saved[step] = aside
                    tell(log, replace(CHECKPOINT, step=step))
            step = base + more
        log.close()
        run = read_run(path)
        assert gaps(run.records) == []
        assert [it.step for it in run.steps] == list(range(1, step + 1))
        assert isinstance(run.records[0], Start)
        assert len([it for it in run.events if it.what == "resume"]) <= len(lives)
        used = {s for it in run.steps for s in range(it.first_sample, it.first_sample + 8)}
        assert len(used) == 8 * len(run.steps)


def moved(step: int, aside: int):
    """Return a step after so many samples were set aside."""
    return replace(nth_step(step), first_sample=8 * (step - 1) + aside)


def test_a_resume_keeps_what_is_true_and_what_happened(tmp_path):
    path = tmp_path / "run.jsonl"
    hang = Event(step=14, what="hang", message="rank 1 waits in all_gather")
    late_skip = replace(SKIP, step=13)
    logged(path, START, EVAL, *run_of(1, 14), SKIP, late_skip, hang, replace(END, step=14)).close()
    logged(path, replace(START, step=10, world_size=4)).close()
    run = read_run(path)
    assert [it.step for it in run.steps] == list(range(1, 11))
    assert [(it.what, it.step) for it in run.events] == [("skip", 7), ("hang", 14), ("resume", 10)]
    assert run.events[-1].message == "goes on after step 10 on 4 ranks"
    assert [it.world_size for it in run.starts] == [2, 4]
    assert run.end is None


def test_steps_that_a_power_cut_took_are_named(tmp_path):
    path = tmp_path / "run.jsonl"
    logged(path, START, *run_of(1, 6)).close()
    logged(path, replace(START, step=10)).close()
    run = read_run(path)
    assert run.events[-1].message.endswith("the log lacks steps 7 to 10")
    tell_more = [*run.records, nth_step(11)]
    assert gaps(tell_more) == ["step 11 follows step 6", "step 11 begins at sample 80, not 48"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_null_with_a_flag(tmp_path, value):
    path = tmp_path / "run.jsonl"
    logged(path, START, replace(nth_step(1), loss=value, grad_norm=value)).close()
    line = json.loads(path.read_text(encoding="utf-8").splitlines()[1], parse_constant=pytest.fail)
    assert line["loss"] is line["grad_norm"] is None
    assert line["not_finite"] == {"loss": str(value), "grad_norm": str(value)}
    assert str(read_run(path).steps[0].loss) == str(value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"kind":"step"', '"kind":"stop"', "kind must be one of start, step"),
        ('"lr":0.001', '"lr":"high"', "run.jsonl:2: lr cannot be 'high'"),
        ('"lr":0.001', '"lr":true', "run.jsonl:2: lr cannot be True"),
        ('"lr":0.001,', "", "run.jsonl:2 lacks lr"),
        ('"lr":', '"rl":', "unknown key in run.jsonl:2 'rl'"),
        ('"loss":9.0', '"loss":NaN', "run.jsonl:2 is not valid JSON"),
        ('"not_finite":{}', '"not_finite":{"loss":"nan"}', "not_finite.loss must be"),
        ('"not_finite":{}', '"not_finite":[]', "lacks not_finite"),
        ("crore.run/1", "crore.run/2", "install a newer crore"),
        ("crore.run/1", "crore.plan/1", "must hold schema crore.run, not crore.plan/1"),
        ('"evidence":"measured"', '"evidence":1', "run.jsonl:1 prediction: evidence cannot be 1"),
        ('"dp_shard":2', '"dp_shard":[2]', "run.jsonl:1: layout cannot be"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, old, new, message):
    path = tmp_path / "run.jsonl"
    logged(path, START, nth_step(1)).close()
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_run(path)
    assert message in str(caught.value)


def test_what_is_no_run_is_one_message(tmp_path):
    path = tmp_path / "run.jsonl"
    for content in (b"", b"half a line", b"\xff\n"):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read_run(path)
    with pytest.raises(InputError, match="no file"):
        read_run(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot write"):
        RunLog(tmp_path / "none" / "run.jsonl").start(START)


class FullDisk:
    """Stands before a file and takes so many bytes more."""

    def __init__(self, file, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken: int = self.file.write(bytes(data[: self.room]))
        self.room -= taken
        return taken

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_on_a_full_disk_lines_wait_and_none_is_lost_or_torn(tmp_path):
    path = tmp_path / "run.jsonl"
    told: list[str] = []
    log = RunLog(path, told.append)
    tell(log, START)
    log._file = disk = FullDisk(log._file, 500)  # type: ignore[assignment]
    tell(log, *run_of(1, 9))
    log.sync()
    assert told == ["run.jsonl waits in memory: No space left on device"]
    assert len(read_run(path).steps) < 9
    disk.room = 10**9
    tell(log, nth_step(10))
    log.close()
    assert gaps(read_run(path).records) == []
    assert len(read_run(path).steps) == 10


def test_a_log_that_only_grows_keeps_what_is_rolled_back_for_those_who_follow_it(tmp_path):
    path = tmp_path / "run.jsonl"
    back = Event(step=10, what="roll back", message="spike", first_sample=80, samples=0)
    with contextlib.closing(RunLog(path, grows=True)) as log:
        tell(log, START, *run_of(1, 15))
        before = path.read_bytes()
        tell(log, back, *run_of(11, 12))
    assert path.read_bytes().startswith(before)
    assert [it.step for it in read_run(path).steps] == list(range(1, 13))


def test_a_roll_back_on_a_full_disk_is_done_by_readers(tmp_path):
    path = tmp_path / "run.jsonl"
    log = logged(path, START, *run_of(1, 12))
    log._file = disk = FullDisk(log._file, 0)  # type: ignore[assignment]
    back = Event(step=10, what="roll back", message="spike", first_sample=80, samples=0)
    tell(log, nth_step(13), back, nth_step(11))
    disk.room = 10**9
    log.close()
    assert [it.step for it in read_run(path).steps] == list(range(1, 12))
    logged(path, replace(START, step=11)).close()
    assert path.read_text(encoding="utf-8").count('"kind":"step"') == 11


WRITER = """
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from tests.train.feed import START, nth_step, tell
from crore.train.log import RunLog
first, path = int(sys.argv[1]), Path(sys.argv[2])
log = RunLog(path)
tell(log, replace(START, step=first), nth_step(first + 1))
print("writes", flush=True)
for step in count(first + 2):
    tell(log, nth_step(step))
"""


def test_a_process_killed_while_it_writes_leaves_whole_lines(tmp_path):
    path, done = tmp_path / "run.jsonl", 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(done), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.05)
            writer.kill()
        run = read_run(path)
        assert gaps(run.records) == []
        assert len(run.steps) > done
        done = len(run.steps) // 2
