"""`crore validate` writes its predictions beside its input, never over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from crore.cli import run

RUNS = Path(__file__).parents[1] / "published" / "runs.jsonl"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A file of one run, in the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text(RUNS.read_text(encoding="utf-8").partition("\n")[0], encoding="utf-8")
    (tmp_path / "link.jsonl").symlink_to(path)
    return path


@pytest.mark.parametrize("output", ["a.jsonl", "./link.jsonl", "../{folder}/a.jsonl"])
def test_the_runs_are_never_overwritten(runs, capsys, output):
    before = runs.read_text()
    name = output.format(folder=runs.parent.name)
    assert run(["validate", str(runs), "--predictions", name]) == 2
    assert "is read here and would be lost: write elsewhere" in capsys.readouterr().err
    assert runs.read_text() == before


def test_predictions_go_to_their_own_file(runs, capsys):
    assert run(["validate", "a.jsonl", "--predictions", "b.jsonl"]) == 0
    assert "1 measured runs" in capsys.readouterr().out
    assert (runs.parent / "b.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("arguments", [[""], ["a.jsonl", "--predictions", ""]])
def test_an_empty_file_name_is_refused(runs, capsys, arguments):
    assert runs.exists()
    assert run(["validate", *arguments]) == 2
    assert "the file name is empty" in capsys.readouterr().err
