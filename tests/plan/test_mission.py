"""Missions: shipped files and the user's own, every key checked."""

from __future__ import annotations

import pytest

from crore.errors import InputError, UnknownName
from crore.plan import mission_names, read_mission


def test_shipped_missions_are_found_by_name():
    assert "ten_million" in mission_names()
    assert (read_mission("ten_million") or {})["gpus"] == 10_000_000


def test_a_model_name_is_no_mission():
    assert read_mission("llama3-8b") is None


def test_a_users_file_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "llama3-8b"\ngpu = "h100-sxm"\ngpus = 8\n')
    assert read_mission(str(path)) == {"model": "llama3-8b", "gpu": "h100-sxm", "gpus": 8}


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('modle = "x"\ngpu = "y"\ngpus = 1\n', UnknownName, "did you mean model"),
        ('gpu = "y"\ngpus = 1\n', InputError, "lacks model"),
        ('model = "x"\ngpu = "y"\ngpus = "many"\n', InputError, "gpus"),
        ('model = "x"\ngpu = "y"\ngpus = 8.5\n', InputError, "gpus"),
        ("model = 3\ngpu = 'y'\ngpus = 8\n", InputError, "model"),
    ],
)
def test_a_broken_file_names_the_key(tmp_path, text, error, words):
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(error, match=words):
        read_mission(str(path))


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        read_mission(str(tmp_path / "none.toml"))
