"""`crore launch` writes a folder or nothing; what is wrong is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from crore.cli import run
from crore.launch import TARGETS

PLAN = "plan llama-3.1-8b --gpu h100-sxm --gpus 64 --tokens 100B --stack crore"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A plan file, made once."""
    path: Path = tmp_path_factory.mktemp("plan") / "plan.json"
    assert run([*PLAN.split(), "-o", str(path)]) == 0
    return path


@pytest.fixture(autouse=True)
def folder(made, tmp_path, monkeypatch):
    """Work in a folder of its own with the plan in it."""
    shutil.copy(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("target", ["torchrun", "slurm", "kubernetes", "skypilot"])
def test_a_plan_file_becomes_a_folder_that_says_how_to_run_it(folder, capsys, target):
    assert run(["launch", "plan.json", "--to", target, "-o", "job"]) == 0
    said = capsys.readouterr().out
    written = (folder / "job" / "README.txt").read_text(encoding="utf-8")
    assert said.endswith(written)
    assert "What it leaves out of the plan" in said
    record = json.loads((folder / "job" / "map.json").read_text(encoding="utf-8"))
    assert set(record["files"]) == {path.name for path in (folder / "job").iterdir()}


def test_the_plan_in_the_folder_is_the_plan(folder):
    assert run(["launch", "plan.json", "--to", "slurm", "-o", "job"]) == 0
    copy = (folder / "job" / "plan.json").read_text(encoding="utf-8")
    assert json.loads(copy) == json.loads((folder / "plan.json").read_text(encoding="utf-8"))


def test_a_mission_is_planned_and_launched(folder):
    assert run(["launch", "ten_million", "--to", "slurm", "-o", "job"]) == 0
    body = json.loads((folder / "job" / "plan.json").read_text(encoding="utf-8"))
    record = json.loads((folder / "job" / "map.json").read_text(encoding="utf-8"))
    assert record["worlds"] == body["worlds"] > 1000
    assert run(["explain", "job/plan.json", "days"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("plan.json --to slurmm -o job", "did you mean slurm"),
        ("plan.json --to slurm -o job --gpus-per-node -1", "--gpus-per-node"),
        ("plan.json --to slurm -o job --image x", "--image"),
        ("plan.json --to kubernetes -o job --image x\u0007", "--image"),
        ("none.json --to slurm -o job", "none.json"),
        ("llama-3.1-8b --to slurm -o job", "names no machines"),
        ("ten_million --to megatron -o job", "worlds as one model"),
        ("ten_million --to skypilot -o job", "SkyPilot"),
        ("plan.json --to torchrun -o .", "holds other files"),
        ("plan.json --to torchrun -o no/where", "cannot write"),
    ],
)
def test_what_is_wrong_is_one_line_and_no_file(folder, capsys, words, said):
    before = sorted(folder.rglob("*"))
    assert run(["launch", *words.split(" ")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_the_target_and_the_folder_are_asked_for(capsys):
    assert run(["launch", "plan.json"]) == 2
    assert "--to" in capsys.readouterr().err


def test_the_help_names_every_target(capsys):
    assert run(["launch", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(target in said for target in TARGETS)
