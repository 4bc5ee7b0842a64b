"""`crore train` as a user meets it: it goes on, and what it cannot do is one line."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.train.data.texts import folder_of
from tests.train.tiny import CATALOGUE, crore, home, words

from crore.cli import run
from crore.train.history import gaps, read_run

ONE_LINE = 240
ENDLESS = 100_000
"""Steps of a run that is asked to end: it cannot be over before it hears of it."""
GIVE_UP_S = 300.0
"""Nothing here takes longer, however busy the machine."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a home with a finished run of four steps."""
    torch.set_num_threads(1)
    folder = home(tmp_path_factory.mktemp("home"))
    assert run(words(folder, steps=4, quiet=True)) == 0
    return folder


@pytest.fixture
def called(capsys):
    """Return what `crore` with some words prints, says and exits with."""

    def call(*line: str) -> tuple[int, str, str]:
        code = run(list(line))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert all(len(text) <= ONE_LINE for text in err.splitlines())
        assert len(err.splitlines()) == (code not in (0, 130))
        return code, out, err

    return call


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; did you mean adamw?"),
        ({"schedule": "linear"}, "unknown learning-rate schedule 'linear'"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"scale": "tiny"}, "unknown scale 'tiny' (one of: full, small)"),
        ({"log": "tensorbord"}, "unknown --log 'tensorbord'; did you mean tensorboard?"),
        ({"lr": -1}, "--lr must be a positive number, such as 3e-4, not -1"),
        ({"lr": "nan"}, "--lr must be a positive number"),
        ({"lr": 0}, "--lr must be a positive number"),
        ({"lr": "fast"}, "Invalid value for '--lr'"),
        ({"ramp": "nonsense"}, "a batch ramp is start:increment:samples"),
        ({"ramp": "3:2:10"}, "must go from its start to 8 in whole increments"),
        ({"seed": "x"}, "Invalid value for '--seed'"),
        ({"warmup": 99}, "warm-up (99 steps) and decay (0) must fit in the run (12)"),
        ({"evaluate_every": "often"}, "--evaluate-every must be a positive whole number"),
        ({"checkpoint_every": -2}, "--checkpoint-every must be a positive whole number"),
        ({"keep": 0}, "Invalid value for '--keep'"),
        ({"hang_after": "inf"}, "--hang-after must be a finite number, not inf"),
        ({"port": 99999}, "Invalid value for '--port'"),
        ({"steps": 0}, "--steps must be a whole number from 1"),
        ({"z_loss": "inf"}, "--z-loss must be a finite number"),
        ({"wramup": 3}, "no option --wramup for crore train; did you mean --warmup"),
        ({"gpus": 64}, "the plan is for 64 ranks and this machine runs "),
        ({"data": "nowhere"}, "no file or folder nowhere"),
        ({"data": "python:3"}, "no file or folder"),
        ({"tokenizer": "none.json"}, "no file none.json"),
        ({"seq_len": 100_000, "steps": 1, "out": "long"}, "one sample takes 100,001: give more"),
        ({"out": "/proc/run"}, "cannot write the run's folder /proc/run"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(root, called, flags, said):
    code, _, err = called(*words(root, **flags))
    assert code == 2
    assert said in err


def test_names_that_are_no_plan_are_one_line(root, called, tmp_path):
    out = ("--out", str(tmp_path / "run"))
    for target, said in (
        ("nemotron-h-56b", "nemotron-h-56b has layers that "),
        ("ten_million", "crore launch writes the files of its 1,"),
        ("tinny", "unknown model or mission 'tinny'; did you mean tinyllama?"),
        ("nothing.json", "no file nothing.json"),
        (str(root / "text"), "text holds no config.json"),
    ):
        code, _, err = called("train", target, *out)
        assert code == 2
        assert said in err


def test_a_plan_is_carried_out_as_it_is_and_a_damaged_one_is_refused(root, called, tmp_path):
    plan = root / "run" / "plan.json"
    body = json.loads(plan.read_text())
    more = words(root, gpus=None, seq_len=None, global_batch=None, precision=None, catalog=None)[2:]
    code, out, _ = called("train", str(plan), *more)
    assert (code, "goes on after step 4" in out, "TRAINED  12 steps" in out) == (0, True, True)
    code, _, err = called("train", str(plan), "--gpus", "2")
    assert (code, "is carried out as it is: --gpus would need another plan" in err) == (2, True)
    bad = tmp_path / "bad.json"
    for place, value in (
        ("layout.tp", None), ("layout.tp", 0), ("layout.schedule", 3), ("worlds", "many"),
        ("step_time_s", 3), ("layout", []), ("seq_len", None), ("layout.sequence_parallel", 1),
    ):  # fmt: skip
        broken = json.loads(json.dumps(body))
        *path, last = place.split(".")
        inner = broken
        for key in path:
            inner = inner[key]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
        bad.write_text(json.dumps(broken))
        code, _, err = called("train", str(bad), "--out", str(tmp_path / "run"))
        assert code == 2
        assert f"bad.json is damaged: {place}" in err
    bad.write_text(plan.read_text()[:500])
    code, _, err = called("train", str(bad), "--out", str(tmp_path / "run"))
    assert code == 2
    assert "is not valid JSON" in err


def test_a_tokenizer_that_is_damaged_or_too_large_is_refused(root, called, tmp_path):
    (tmp_path / "damaged.json").write_text('{"a": 1}')
    (tokenizer,) = (root / "cache" / "tokenizers").glob("*.json")
    (tmp_path / "small.toml").write_text(CATALOGUE.replace("vocab = 400", "vocab = 300"))
    for flags, said in (
        ({"tokenizer": tmp_path / "damaged.json"}, "damaged.json is no tokenizer.json"),
        ({"tokenizer": tokenizer, "catalog": tmp_path / "small.toml"}, "vocabulary is 300"),
    ):
        code, _, err = called(*words(root, out="other", **flags))
        assert code == 2
        assert said in err


def test_another_run_in_the_folder_is_refused_and_left_as_it_is(root, called):
    folder = root / "run"
    folder_of(root / "other", 40)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for flags, said in (
        ({"seed": 1}, "has another seed: 0 there, 1 here; give another --out, or --fresh"),
        ({"optimizer": "muon"}, "has another optimizer"),
        ({"seq_len": 8}, "has another sequence length: 16 there, 8 here"),
        ({"data": root / "other"}, "has another text or tokenizer; give another --out"),
    ):
        code, _, err = called(*words(root, **flags))
        assert code == 2
        assert said in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_finished_run_says_so_goes_on_for_more_steps_and_begins_anew(root, called):
    assert called(*words(root, "again", steps=2, quiet=True))[0] == 0
    code, out, _ = called(*words(root, "again", steps=2))
    assert code == 0
    assert f"FINISHED  the run in {root / 'again'} has done 2 steps: --steps 4" in out
    assert called(*words(root, "again", steps=3, quiet=True))[0] == 0
    told = read_run(root / "again" / "run.jsonl")
    assert [step.step for step in told.steps] == [1, 2, 3]
    assert gaps(told.records) == []
    assert called(*words(root, "again", steps=2, quiet=True, fresh=True, seed=5))[0] == 0
    assert read_run(root / "again" / "run.jsonl").start.seed == 5


def test_0_is_never_and_the_last_step_counts_all_the_same(root, called):
    never = {"evaluate_every": 0, "checkpoint_every": 0, "sample_every": 0, "warmup": 0}
    code, out, _ = called(*words(root, out="never", steps=5, **never))
    assert code == 0
    told = read_run(root / "never" / "run.jsonl")
    assert [[it.step for it in kind] for kind in (told.evals, told.checkpoints, told.samples)] == [
        [0, 5], [0, 5], [5],
    ]  # fmt: skip
    assert "TRAINED  5 steps" in out


def test_a_short_run_evaluates_and_saves_every_ten_steps(root, called):
    assert called(*words(root, out="short", steps=21, quiet=True, evaluate_every=None))[0] == 0
    told = read_run(root / "short" / "run.jsonl")
    assert [it.step for it in told.evals] == [0, 10, 20, 21]
    assert [it.step for it in told.checkpoints] == [0, 10, 20, 21]


def test_without_torch_it_says_what_to_install_and_the_planner_goes_on(tmp_path):
    for arguments, code, said in (
        (["train", "nano-1m"], 2, "crore: crore train needs torch: pip install"),
        (["plan", "llama3-8b", "--gpu", "h100-sxm", "--gpus", "8", "--tokens", "1T"], 0, ""),
    ):
        script = (
            "import sys\nfor name in ('torch', 'tokenizers'): sys.modules[name] = None\n"
            f"from crore.cli import run\nsys.exit(run({arguments!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith(said)
        assert len(done.stderr.splitlines()) == (code > 0)


def test_a_rank_without_its_world_is_one_line(root, called, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    code, _, err = called(*words(root))
    assert code == 2
    assert "but WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set" in err


@contextlib.contextmanager
def terminal(*line: str, cwd: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command with a terminal of its own, so that Ctrl-C can be typed; kill it after."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *line], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def steps_done(log: Path) -> int:
    with contextlib.suppress(Exception):
        return read_run(log).steps[-1].step
    return 0


def screen(ours: int, log: Path, process: subprocess.Popen[bytes], at: int) -> str:
    """Read what a terminal shows until the end; type Ctrl-C after some steps."""
    shown, typed, end_s = b"", False, time.monotonic() + GIVE_UP_S
    os.set_blocking(ours, False)
    while time.monotonic() < end_s:
        ended = process.poll() is not None
        with contextlib.suppress(BlockingIOError, OSError):
            while part := os.read(ours, 65536):
                shown += part
        if ended:
            return shown.decode()
        if not typed and steps_done(log) >= at:
            os.write(ours, b"\x03")
            typed = True
        time.sleep(0.02)
    raise AssertionError(f"still running; the screen shows {shown.decode()[-2000:]}")


def test_ctrl_c_saves_and_leaves_with_130_and_a_signal_to_the_launcher_with_0(root):
    log = root / "two" / "run.jsonl"
    flags = {"steps": ENDLESS, "gpus": 2, "fix": "tp=1,pp=1", "checkpoint_every": 50}
    line = crore(*words(root, out="two", **flags))
    with terminal(*line, cwd=root) as (process, ours):
        shown = screen(ours, log, process, 5)
        assert process.returncode == 130
    done = steps_done(log)
    assert 5 <= done < ENDLESS
    assert "PAUSED" in shown
    assert "asked to end by SIGINT" in shown
    assert "Traceback" not in shown
    assert read_run(log).checkpoints[-1].step == done
    second = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while second.poll() is None and steps_done(log) < done + 5:
        time.sleep(0.02)
    second.send_signal(signal.SIGTERM)
    out, err = second.communicate(timeout=GIVE_UP_S)
    assert (second.returncode, err) == (0, "")
    assert "goes on after step" in out
    assert "asked to end by SIGTERM" in out
    assert gaps(read_run(log).records) == []
    assert read_run(log).checkpoints[-1].step == steps_done(log)


def test_a_world_that_others_started_is_joined_and_only_rank_0_speaks(root):
    line = words(root, "joined", steps=4, gpus=None)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "crore", *line], capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("TRAINED  4 steps") == 1
    assert done.stdout.count("FITS") == 1
    told = read_run(root / "joined" / "run.jsonl")
    assert told.start.world_size == 2
    assert gaps(told.records) == []
