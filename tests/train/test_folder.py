"""A folder has one owner and one writer, who let go however they end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from crore.errors import InputError
from crore.train import folder as folders
from crore.train.folder import own, writing

HOLD = """
import sys, time
from pathlib import Path
from crore.train.folder import own, writing
with {call}:
    print("held", flush=True)
    time.sleep({seconds})
"""


def holding(call, seconds):
    """Start a process that holds a folder for so long, and wait until it does."""
    script = HOLD.format(call=call, seconds=seconds)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path):
    with holding(f"own(Path({str(tmp_path)!r}), fresh=False)", 600) as process:
        with pytest.raises(InputError, match=r"another run is going on in .*--out"):
            own(tmp_path, fresh=False).__enter__()
        process.kill()
    with own(tmp_path, fresh=False):
        pass


def test_a_rank_that_still_leaves_is_waited_for(tmp_path, monkeypatch):
    call = f"writing(Path({str(tmp_path)!r}))"
    with holding(call, 0.5), writing(tmp_path):
        pass
    monkeypatch.setattr(folders, "LEAVING_S", 0.2)
    with holding(call, 600) as process:
        with pytest.raises(InputError, match="another run is going on"):
            own(tmp_path, fresh=True).__enter__()
        process.kill()


def test_fresh_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    for name in ("run.jsonl", "plan.json", "model.toml", "mine.txt", "checkpoint/step-00000004/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with own(tmp_path, fresh=True):
        left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {"mine.txt"}


def test_fresh_removes_a_fleet_too(tmp_path):
    for name in ("job.pickle", "island-000/checkpoint/step-4/x", "world-00012/run-0.jsonl",
                 "world-map/mine"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with own(tmp_path, fresh=True):
        left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {"world-map"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write the run's folder .*: Not a directory"):
        own(tmp_path / "file" / "run", fresh=False).__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_closed_to_us_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write the run's folder"):
        own(tmp_path / "run", fresh=False).__enter__()


def test_ranks_after_the_first_leave_the_folder_to_it(tmp_path, monkeypatch):
    for name, value in (
        ("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "29500"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with own(tmp_path / "run", fresh=True):
        assert not (tmp_path / "run").exists()
