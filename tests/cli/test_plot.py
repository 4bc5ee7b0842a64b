"""`--plot` writes a picture where it may, and says so before the search where it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

import crore.plan
from crore.cli import run
from crore.errors import MAX_MESSAGE_CHARS

RUNS = Path(__file__).parents[1] / "published" / "runs.jsonl"
PLAN = ("plan", "llama3-8b", "--gpu", "h100-sxm", "--gpus", "8", "--tokens", "1T")
SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> Any:
    """Return a picture of ours as a tree."""
    return fromstring(svg)  # noqa: S314


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text(RUNS.read_text(encoding="utf-8").partition("\n")[0])
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "own.svg").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [PLAN, (*PLAN, "--objective", "pareto"),
     ("compare", "gpt2", "gpt2:gpus=4", "--gpu", "a100-sxm-80gb", "--gpus", "8"),
     ("validate", "a.jsonl")],
    ids=["plan", "pareto", "compare", "validate"],
)  # fmt: skip
def test_a_picture_is_drawn_beside_the_answer(folder, capsys, command):
    assert run(command) == 0
    plain = capsys.readouterr().out
    assert run([*command, "--plot", "out.svg"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == plain.splitlines()[0]
    root = parsed((folder / "out.svg").read_text(encoding="utf-8"))
    assert root.find(f"{SPACE}title").text
    assert root.find(f"{SPACE}desc").text


@pytest.mark.parametrize("command", [PLAN, ("compare", "a", "b"), ("validate", "a.jsonl")])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("out.png", "--plot draws SVG: name the file out.svg, not 'out.png'"),
        ("out", "name the file out.svg"),
        ("none/out.svg", "there is no folder none"),
        ("a.jsonl/out.svg", "there is no folder a.jsonl"),
        ("folder.svg", "a folder has that name"),
        ("x" * 300 + "/out.svg", "there is no folder xxx"),
        ("", "the file name is empty"),
    ],
)
def test_a_bad_place_is_one_line_before_the_work(folder, monkeypatch, capsys, command, path, said):
    def never(*_):
        raise AssertionError("searched")

    monkeypatch.setattr(crore.plan, "make_plan", never)
    monkeypatch.setattr(crore.plan, "validate_runs", never)
    before = sorted(folder.iterdir())
    assert run([*command, "--plot", path]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert len(err) <= MAX_MESSAGE_CHARS
    assert sorted(folder.iterdir()) == before


def test_a_picture_replaces_no_file_that_is_read_or_written(folder, capsys):
    assert run([*PLAN, "--catalog", "own.svg", "--plot", "./own.svg"]) == 2
    assert "is read here and would be lost" in capsys.readouterr().err
    assert run([*PLAN, "-o", "plan.svg", "--plot", "./plan.svg"]) == 2
    assert "--plot and --output both name plan.svg" in capsys.readouterr().err
    assert not (folder / "plan.svg").exists()


def test_the_document_says_nothing_of_the_picture(folder, capsys):
    assert run([*PLAN, "--json", "--plot", "out.svg"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "crore.plan/1"
    assert (folder / "out.svg").exists()
