"""`crore check` prints every finding on its own line and tells bad from infeasible."""

from __future__ import annotations

import json

import pytest

from crore.cli import run
from crore.cli.complete import complete_mission

BROKEN = 'model = "gpt2-124m"\n[cluster]\ngpu = "h1000"\ngpus = "many"\n'


def test_a_fine_mission_is_one_line(capsys):
    assert run(["check", "llama3_405b"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("ok  llama3_405b.toml: llama3.1-405b on 16,384 x h100-sxm")
    assert printed.out.count("\n") == 1
    assert printed.err == ""


def test_a_bad_mission_is_exit_code_2_and_all_its_findings(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BROKEN)
    assert run(["check", str(path)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mine.toml line 3", "mine.toml line 4"]


def test_a_sound_but_infeasible_mission_is_exit_code_1(capsys):
    assert run(["check", "baichuan13b_3090"]) == 1
    assert "crore fit baichuan-13b" in capsys.readouterr().out


def test_json_says_the_same(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BROKEN)
    assert run(["check", str(path), "--json"]) == 2
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "crore.check/1"
    assert [problem["key"] for problem in record["problems"]] == ["cluster.gpu", "cluster.gpus"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["check", "ten_milion"], "unknown mission 'ten_milion'; did you mean ten_million"),
        (["check", "none.toml"], "none.toml"),
    ],
)
def test_what_is_no_mission_is_one_line_on_stderr(arguments, expected, capsys):
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.count("\n") == 1


def test_mission_names_complete():
    assert complete_mission("ten") == ["ten_million", "ten_million_moe"]
