"""A document says which command wrote it, and from which figures."""

from __future__ import annotations

import hashlib
import json
import shlex

import pytest

from crore import __version__
from crore.catalog import load
from crore.cli import run
from crore.cli.document import called_as, constants_sha256, dumped, headed, written


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Stand in for the shipped figures."""
    monkeypatch.setattr(load, "DATA", tmp_path)
    constants_sha256.cache_clear()
    yield tmp_path
    constants_sha256.cache_clear()


def test_the_head_comes_first_and_the_body_stays():
    with called_as(["plan", "a model", "--json"]):
        document = json.loads(dumped("plan", 1, {"gpus": 8}))
    assert list(document) == ["schema", "crore", "command", "constants_sha256", "gpus"]
    assert (document["schema"], document["crore"]) == ("crore.plan/1", __version__)
    assert shlex.split(document["command"]) == ["crore", "plan", "a model", "--json"]
    assert document["gpus"] == 8


def test_a_command_is_forgotten_when_it_is_over():
    with called_as(["plan"]):
        assert headed({})["command"] == "crore plan"
    assert headed({})["command"] == "crore"


def test_the_hash_is_of_every_figure_and_its_file(data):
    (data / "b.toml").write_text("x = 1")
    (data / "a.toml").write_text("y = 2")
    (data / "notes.md").write_text("no figure")
    expected = hashlib.sha256(b"a.toml\0y = 2b.toml\0x = 1").hexdigest()
    assert constants_sha256() == expected


@pytest.mark.parametrize("change", ["value", "name"])
def test_a_figure_changed_is_another_hash(data, change):
    path = data / "a.toml"
    path.write_text("x = 1")
    before = constants_sha256()
    constants_sha256.cache_clear()
    if change == "value":
        path.write_text("x = 2")
    else:
        path.rename(data / "b.toml")
    assert constants_sha256() != before


def test_a_file_holds_what_the_screen_shows(tmp_path):
    path = tmp_path / "plan.json"
    written(path, "plan", 1, {"gpus": 8})
    assert json.loads(path.read_text()) == json.loads(dumped("plan", 1, {"gpus": 8}))


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "gpt2", "--gpu", "rtx-3090", "--gpus", "1", "--tokens", "1B", "--json"],
        ["catalog", "gpus", "h100-sxm", "--json"],
        ["fit", "gpt2", "--gpu", "rtx-3090", "--json"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_writes_the_head(words, capsys):
    assert run(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == f"crore {' '.join(words)}"
    assert document["constants_sha256"] == constants_sha256()
    assert document["schema"].startswith(f"crore.{words[0]}/")
