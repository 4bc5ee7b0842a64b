"""`crore plan` lays the flags over the mission and hands one request to the planner."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import crore.plan
from crore.cli import run
from crore.cli.complete import complete_cluster, complete_fabric, complete_gpu, complete_target
from crore.errors import Infeasible, UnknownName
from crore.plan import Limits, PlanRequest

MISSION: dict[str, Any] = {
    "model": "m",
    "gpu": "g",
    "gpus": 10_000_000,
    "global_batch_tokens": 10**9,
}


@pytest.fixture
def planner(monkeypatch):
    """Stand in for the planner; keep the requests it is given."""
    requests: list[PlanRequest] = []

    def make_plan(request, watch=None):
        assert watch is None  # nobody watches a test's stderr
        requests.append(request)
        if request.model == "too-big":
            raise Infeasible("does not fit by 3 GB")
        if request.model == "ten_milion":
            raise UnknownName("model", request.model, ["llama-3.1-405b"], "crore catalog models")
        return SimpleNamespace(gpus=request.gpus, interrupted=request.model == "stopped")

    stand_ins = {
        "make_plan": make_plan,
        "read_mission": lambda name: dict(MISSION) if name == "ten_million" else None,
        "mission_names": lambda: ("ten_million",),
        "plan_record": lambda answer: {"gpus": answer.gpus},
        "render": lambda answer, _: f"FITS on {answer.gpus}",
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(crore.plan, name, value)
    return requests


def test_flags_become_one_request(planner, capsys):
    command = (
        "plan m --gpu g --gpus 16k --tokens 15T --fix tp=8 --precision fp8 --catalog own.toml "
        "--objective cheapest --top 3 --limit days=90 --fabric rail-400g"
    )
    assert run(command.split()) == 0
    assert capsys.readouterr().out == "FITS on 16000\n"
    assert planner == [
        PlanRequest(
            model="m", gpu="g", gpus=16_000, tokens=15 * 10**12, precision="fp8", fix={"tp": 8},
            catalog_file=Path("own.toml"), objective="cheapest", top=3, limits=Limits(days=90),
            fabric="rail-400g",
        )
    ]  # fmt: skip


def test_a_mission_needs_no_flag_and_a_flag_overrides_it(planner):
    assert run(["plan", "ten_million"]) == 0
    assert planner[0] == PlanRequest(**MISSION)
    assert run(["plan", "ten_million", "--gpus", "8", "--global-batch", "64"]) == 0
    assert planner[1] == PlanRequest(model="m", gpu="g", gpus=8, global_batch=64)


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
    assert "m needs --gpus, for example" in capsys.readouterr().err
    assert planner == []


def test_names_complete(planner):
    assert complete_target("ten") == ["ten_million"]
    assert "llama-3.1-405b" in complete_target("llama-3.1")
    assert "h100-sxm" in complete_gpu("h100")
    assert "dgx-h100" in complete_cluster("dgx")
    assert "rail-400g" in complete_fabric("rail")
    assert planner == []


def test_an_interrupted_search_prints_the_best_so_far_and_leaves_with_130(planner, capsys):
    assert run(["plan", "stopped", "--gpu", "g", "--gpus", "8"]) == 130
    assert capsys.readouterr().out == "FITS on 8\n"
    assert planner


def test_ctrl_c_in_a_search_ends_it_with_the_best_so_far(monkeypatch, capsys):
    """The planner itself, interrupted as soon as it knows a plan."""

    @contextlib.contextmanager
    def pressing():
        def watch(_share, found):
            if found.ranked:
                raise KeyboardInterrupt

        yield watch

    monkeypatch.setattr("crore.cli.progress.watching", pressing)
    command = "plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 1T --global-batch 2048"
    assert run(command.split()) == 130
    out, err = capsys.readouterr()
    assert out.startswith("FITS ")
    assert "stopped early: the best so far" in out
    assert err == ""


def test_ctrl_c_before_anything_is_known_is_130_and_silence(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(crore.plan, "make_plan", stopped)
    assert run(["plan", "llama3-8b", "--gpu", "h100-sxm", "--gpus", "8"]) == 130
    assert capsys.readouterr().out == ""
