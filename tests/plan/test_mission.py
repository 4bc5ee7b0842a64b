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


def test_numbers_are_written_as_on_the_command_line(tmp_path):
    path = tmp_path / "mine.toml"
    text = 'model = "gpt2"\ncluster = "dgx-h100"\nfabric = "rail-400g"\nprecision = "BF16 "\n'
    path.write_text(text + 'tokens = "15T"\nglobal_batch = "1k"\n', encoding="utf-8-sig")
    assert read_mission(str(path)) == {
        "model": "gpt2",
        "cluster": "dgx-h100",
        "fabric": "rail-400g",
        "precision": "bf16",
        "tokens": 15 * 10**12,
        "global_batch": 1000,
    }


def test_a_mission_file_may_have_any_name_but_a_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "gpt2", "config.json"):
        (tmp_path / name).write_text('model = "gpt2"\n')
    assert read_mission("mine") == read_mission("./mine") == {"model": "gpt2"}
    assert read_mission("gpt2") is None
    assert read_mission("config.json") is None
    assert read_mission(str(tmp_path)) is None
    assert read_mission("x" * 5000) is None
    assert read_mission("") is None


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('modle = "x"\ngpu = "y"\ngpus = 1\n', UnknownName, "did you mean model"),
        ('gpu = "y"\ngpus = 1\n', InputError, "lacks model"),
        ('model = "x"\ngpu = "y"\ngpus = "many"\n', InputError, "gpus"),
        ('model = "x"\ngpu = "y"\ngpus = 8.5\n', InputError, "gpus"),
        ('model = "x"\ngpus = true\n', InputError, r"broken\.toml: gpus"),
        ('model = "x"\ngpus = [8]\n', InputError, "gpus"),
        ('model = "x"\ngpus = 0\n', InputError, "gpus"),
        (f'model = "x"\ngpus = 0x{"f" * 6000}\n', InputError, "gpus"),
        ('model = "x"\nfoo = 1\n', UnknownName, "one of: model, gpu, gpus, cluster, fabric"),
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
