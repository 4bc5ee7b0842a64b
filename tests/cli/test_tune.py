"""`crore tune`: bad input is one line; a run's answer is as its schema says, and it goes on."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator
from tests.train.tune.tiny import conversations, write_model

from crore.cli import run

SCHEMA = json.loads((files("crore") / "schemas" / "tune.json").read_text(encoding="utf-8"))
ONE_LINE = 240


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in a folder with a model and conversations."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model")
    told = [json.dumps({"messages": c}) for c in conversations()]
    (tmp_path / "talk.jsonl").write_text("\n".join(told))
    return tmp_path


QUICK = (
    "tune model --data talk.jsonl --method full --steps 4 --evaluate-every 2 --seq-len 64 "
    "--lr 0.003 --device cpu --out out"
)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tune nowhere", "no"),
        ("tune model --stage sfd", "unknown stage 'sfd'; did you mean sft?"),
        ("tune model --method lore", "unknown method 'lore'; did you mean lora"),
        ("tune model --data nowhere.jsonl", "nowhere.jsonl"),
        ("tune model --lr -1", "--lr must be above 0, not -1"),
        ("tune model --steps 0", "--steps must be above 0, not 0"),
        ("tune model --data talk.jsonl --stage dpo", 'talk.jsonl line 1 has no "prompt"'),
        ("tune model --data talk.jsonl --seq-len 2", "are at most 2 tokens long"),
        ("tune model --data talk.jsonl --device cud", "cud"),
    ],
)
def test_what_makes_no_sense_is_one_line(here, capsys, words, said):
    assert run(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("crore: ")
    assert said in err
    assert len(err) <= ONE_LINE
    assert not list(here.rglob("*.safetensors"))[1:]


def test_an_answer_is_as_its_schema_says_and_a_done_run_says_it_again(here, capsys):
    assert run([*QUICK.split(), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(body)
    assert (body["reason"], body["steps"]) == ("finished", 4)
    assert run(QUICK.split()) == 0
    said = capsys.readouterr().out
    assert said.startswith("sft by full finished after 4 steps")
    assert "talk to it: crore chat out" in said
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in (here / "out").iterdir()
    }


def test_another_run_needs_another_folder_or_to_begin_anew(here, capsys):
    assert (here / "talk.jsonl").exists()
    assert run(QUICK.split()) == 0
    assert run([*QUICK.split(), "--seed", "5"]) == 2
    assert "holds another tuning run: give another --out, or --fresh" in capsys.readouterr().err
    assert run([*QUICK.split(), "--seed", "5", "--fresh"]) == 0
