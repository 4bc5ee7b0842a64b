"""`crore train` of a plan of several worlds: what makes no sense is one line, the rest trains."""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from tests.train.tiny import BATCH, home, words

from crore.cli import run
from crore.cli.among import Among
from crore.train.fault.worlds import Lighthouse
from crore.train.history import Run, gaps, read_run

SCHEMA = json.loads((files("crore") / "schemas" / "run.json").read_text(encoding="utf-8"))
ONE_LINE = 240
TWO: dict[str, Any] = {"gpus": 2, "limit": "world_gpus=1", "fix": "worlds=2"}
ISLANDS: dict[str, Any] = {"gpus": 2, "limit": "world_gpus=1", "fix": "islands=2"}
STEPS = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return home(tmp_path_factory.mktemp("home"))


def written(folder: Path) -> list[str]:
    """Return the files below a folder but for the locks that say who holds it."""
    found = folder.rglob("*") if folder.exists() else ()
    return sorted(p.name for p in found if p.is_file() and p.name not in (".lock", ".writer"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (TWO | {"world": 0}, "world 0 is one of 2 of its island: --lighthouse HOST:PORT says"),
        (TWO | {"world": 7}, "world 7 is one of 2 of its island: --lighthouse HOST:PORT says"),
        (ISLANDS | {"world": 1}, "world 1 is on one of 2 islands: --fleet HOST:PORT says where"),
        (TWO | {"world": -1}, "Invalid value for '--world'"),
        (TWO | {"world": 0, "lighthouse": "here"}, "--lighthouse must be HOST:PORT, such as"),
        (ISLANDS | {"world": 0, "fleet": "h:x"}, "--fleet must be HOST:PORT, such as"),
        (
            TWO | {"world": 0, "lighthouse": "localhost:1", "chaos": "kill"},
            "--chaos is done by the command that starts the worlds, not by --world",
        ),
        ({"chaos": "kill=20"}, "--chaos and --spares need a plan of several worlds: plan it with "),
        ({"spares": 1}, "--chaos and --spares need a plan of several worlds"),
        (TWO | {"chaos": "kil=20"}, "unknown fault 'kil'; did you mean kill?"),
        (TWO | {"chaos": "kill=soon"}, "--chaos kill=soon: give seconds between two faults"),
        (TWO | {"lost_worlds": "keep"}, "unknown rule for lost worlds 'keep'; did you mean keep-"),
        (TWO | {"outer": "speed=1"}, "unknown key of --outer 'speed'"),
        (TWO | {"outer": "lr=fast"}, "--outer lr=fast: give a number of 0 or more"),
        (ISLANDS | {"outer": "fragments=7"}, "is not cut evenly into 7 fragments"),
        (ISLANDS | {"outer": "momentum=1"}, "a momentum from 0 to below 1 (1.0)"),
        (TWO | {"spares": 999}, "the plan is for 1,001 ranks and this machine runs "),
        (TWO | {"spares": -1}, "Invalid value for '--spares'"),
        (TWO | {"grace": -1}, "Invalid value for '--grace'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line_and_nothing_is_written(
    root, tmp_path, capsys, flags, said
):
    code = run(words(root, quiet=True, **flags | {"out": tmp_path / "run"}))
    out, err = capsys.readouterr()
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert len(err.splitlines()) == 1
    assert len(err) <= ONE_LINE
    assert out == ""
    assert written(tmp_path) == []


@pytest.mark.parametrize(("flag", "rule"), [("", "scale-lr"), ("keep-batch", "keep-batch")])
def test_what_a_step_does_without_lost_worlds_is_as_the_mission_says_unless_a_flag_does(flag, rule):
    among = Among(
        world=None, lighthouse="", fleet="", spares=0, lost=flag, grace_s=1.0, chaos="", port=0
    )
    plan = {"worlds": 3, "islands": 1, "request": {"lost_worlds": "scale-lr"}}
    assert among._fleet(plan).lost == rule


def test_a_rank_of_a_world_must_know_which_world_it_is_of(root, tmp_path, capsys, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"),
                        ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):  # fmt: skip
        monkeypatch.setenv(name, value)
    assert run(words(root, quiet=True, **TWO | {"out": tmp_path / "run"})) == 2
    assert (
        "the plan is of 2 worlds: say which one this is with --world W" in capsys.readouterr().err
    )


@pytest.fixture(scope="module")
def fleet(root) -> Path:
    """Return the folder of a run of two worlds, of which none begins before the other is there."""
    if find_spec("torchft") is None:
        pytest.skip("needs crore[ft]")

    def of_two(*, least: int, grace_s: float) -> Lighthouse:
        return Lighthouse(least=2 * least, grace_s=grace_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crore.train.fault.supervisor.Lighthouse", of_two)
        assert run(words(root, "fleet", steps=STEPS, quiet=True, **TWO)) == 0
    return Path(root, "fleet")


def logs(folder: Path) -> list[Run]:
    """Return the runs of the worlds, each of its only start."""
    return [read_run(folder / f"world-{world:05d}" / "run-0.jsonl") for world in range(2)]


def test_the_lines_of_a_fleet_and_of_its_worlds_are_as_the_schema_says(fleet):
    valid = Draft202012Validator(SCHEMA)
    paths = sorted(fleet.rglob("run*.jsonl"))
    assert len(paths) == 3
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert [error.message for error in valid.iter_errors(json.loads(line))] == []


def test_two_worlds_are_one_run(fleet):
    told = read_run(fleet / "run.jsonl")
    assert [step.step for step in told.steps] == list(range(1, STEPS + 1))
    assert gaps(told.records) == []
    assert told.end is not None
    assert told.end.reason == "finished"
    assert len([record for record in told.records if record.kind == "start"]) == 1


def test_worlds_share_each_batch_and_end_with_the_same_weights(fleet):
    worlds = logs(fleet)
    ends = {run.end.checksum for run in worlds if run.end}
    assert len(ends) == 1
    assert ends != {None}
    taken = sorted(
        (step.step, *(step.own_samples or ()), step.worlds or ())
        for run in worlds for step in run.steps
    )  # fmt: skip
    for step, of in groupby(taken, key=lambda it: it[0]):
        samples = [k for _, first, last, _ in of for k in range(first, last)]
        assert samples == list(range(BATCH * (step - 1), BATCH * step))
    last = [run.steps[-1] for run in worlds]
    assert [it.worlds for it in last] == [(0, 1)] * 2
    assert last[0].loss == last[1].loss
    assert last[0].grad_norm == pytest.approx(last[1].grad_norm, rel=1e-6)


def test_two_worlds_learn_what_one_does(fleet, root):
    assert run(words(root, "alone", steps=STEPS, quiet=True, gpus=1)) == 0
    one, two = (read_run(folder / "run.jsonl") for folder in (root / "alone", fleet))
    for ours, theirs in zip(two.steps, one.steps, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)
        assert ours.first_sample == theirs.first_sample
    assert two.evals[-1].loss == pytest.approx(one.evals[-1].loss, rel=1e-3)


def test_a_finished_fleet_says_so_and_does_nothing(fleet, root, capsys):
    before = {path: path.read_bytes() for path in fleet.rglob("run*.jsonl")}
    assert run(words(root, fleet.name, steps=STEPS, **TWO)) == 0
    assert f"has done {STEPS} steps" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in fleet.rglob("run*.jsonl")} == before


def test_another_run_in_the_folder_of_a_fleet_is_refused(fleet, root, capsys):
    assert run(words(root, fleet.name, steps=STEPS, seed=5, quiet=True, **TWO)) == 2
    assert "has another seed: 0 there, 5 here" in capsys.readouterr().err
