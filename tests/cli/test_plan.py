"""`crore plan` lays the flags over the mission and hands one request to the planner."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import crore.plan
from crore.cli import run
from crore.cli.complete import complete_cluster, complete_fabric, complete_gpu, complete_target
from crore.errors import Infeasible, UnknownName

MISSION = {"model": "m", "gpu": "g", "gpus": 10_000_000, "global_batch_tokens": 10**9}


@pytest.fixture
def planner(monkeypatch):
    """Stand in for the planner; keep the requests it is given."""
    requests: list[SimpleNamespace] = []

    def make_plan(request):
        requests.append(request)
        if request.model == "too-big":
            raise Infeasible("does not fit by 3 GB")
        if request.model == "ten_milion":
            raise UnknownName("model", request.model, ["llama-3.1-405b"], "crore catalog models")
        return request

    stand_ins = {
        "SCHEMA_VERSION": 1,
        "PlanRequest": SimpleNamespace,
        "make_plan": make_plan,
        "read_mission": lambda name: dict(MISSION) if name == "ten_million" else None,
        "mission_names": lambda: ("ten_million",),
        "plan_record": lambda plan: {"gpus": plan.gpus},
        "render": lambda plan: f"FITS on {plan.gpus}",
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(crore.plan, name, value, raising=False)
    return requests


def test_flags_become_one_request(planner, capsys):
    command = "plan m --gpu g --gpus 16k --tokens 15T --fix tp=8 --precision fp8 --catalog own.toml"
    assert run(command.split()) == 0
    assert capsys.readouterr().out == "FITS on 16000\n"
    assert vars(planner[0]) == {
        "model": "m",
        "gpu": "g",
        "gpus": 16_000,
        "tokens": 15 * 10**12,
        "precision": "fp8",
        "fix": {"tp": 8},
        "catalog_file": Path("own.toml"),
    }


def test_a_mission_needs_no_flag_and_a_flag_overrides_it(planner):
    assert run(["plan", "ten_million"]) == 0
    assert vars(planner[0]) == MISSION
    assert run(["plan", "ten_million", "--gpus", "8", "--global-batch", "64"]) == 0
    assert vars(planner[1]) == {"model": "m", "gpu": "g", "gpus": 8, "global_batch": 64}


def test_json_goes_to_stdout_and_the_plan_to_its_file(planner, capsys, tmp_path):
    path = tmp_path / "plan.json"
    assert run(["plan", "ten_million", "--json", "-o", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())
    assert json.loads(path.read_text())["schema"] == "crore.plan/1"
    assert len(planner) == 1


def test_nothing_fits_is_exit_code_1_and_the_nearest_miss(planner, capsys, tmp_path):
    path = tmp_path / "plan.json"
    assert run(["plan", "too-big", "--gpu", "g", "--gpus", "8", "-o", str(path)]) == 1
    assert capsys.readouterr().err == "crore: does not fit by 3 GB\n"
    assert planner
    assert not path.exists()


def test_words_are_read_in_any_case(planner):
    assert run(["plan", "m", "--gpu=g", "--gpus=8", "--stack=NeMo", "--precision= BF16"]) == 0
    assert (planner[0].stack, planner[0].precision) == ("nemo", "bf16")


@pytest.mark.parametrize("flag", ["--catalog", "-o"])
def test_an_empty_file_name_is_refused(planner, capsys, flag):
    assert run(["plan", "ten_million", flag, ""]) == 2
    assert "the file name is empty" in capsys.readouterr().err
    assert planner == []


@pytest.mark.parametrize("read", ["mine.toml", "own.toml", "config.json"])
def test_a_plan_overwrites_nothing_it_was_made_from(planner, capsys, tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    Path(read).write_text("kept")
    model = "config.json" if read == "config.json" else "ten_million"
    monkeypatch.setattr(crore.plan, "read_mission", lambda _: {**MISSION, "model": model})
    target = "mine.toml" if read == "mine.toml" else "ten_million"
    assert run(["plan", target, "--catalog", "own.toml", "-o", f"{tmp_path}/{read}"]) == 2
    assert "is read here and would be lost" in capsys.readouterr().err
    assert Path(read).read_text() == "kept"
    assert planner == []


def test_a_mistyped_mission_is_met_with_the_mission(planner, capsys):
    assert run(["plan", "ten_milion", "--gpu", "g", "--gpus", "8"]) == 2
    assert "unknown model or mission 'ten_milion'; did you mean ten_million" in (
        capsys.readouterr().err
    )
    assert planner


def test_a_model_alone_asks_for_the_machines(planner, capsys):
    assert run(["plan", "m", "--gpu", "g"]) == 2
    assert "crore plan m needs --gpus, for example" in capsys.readouterr().err
    assert planner == []


def test_names_complete(planner):
    assert complete_target("ten") == ["ten_million"]
    assert "llama-3.1-405b" in complete_target("llama-3.1")
    assert "h100-sxm" in complete_gpu("h100")
    assert "dgx-h100" in complete_cluster("dgx")
    assert "rail-400g" in complete_fabric("rail")
    assert planner == []
