"""`crore plan --url`: the address of a scenario is answered as its flags are."""

from __future__ import annotations

import json
import re

import pytest

from crore.cli import run
from crore.errors import MAX_MESSAGE_CHARS

HERE = "https://planner.example/#"
SCENARIOS = {
    "s=1;model=llama-3.1-8b;gpu=h100-sxm;gpus=64;tokens=1T":
        "llama-3.1-8b --gpu h100-sxm --gpus 64 --tokens 1T",
    "s=1;model=llama-3.1-70b;gpu=h200-sxm;gpus=1024;tokens=15.6T;seq_len=4096;global_batch=512;"
    "precision=fp8;stack=nemo;fabric=rail-400g;fix=tp=8,zero=1":
        "llama-3.1-70b --gpu h200-sxm --gpus 1024 --tokens 15.6T --seq-len 4096 --global-batch 512 "
        "--precision fp8 --stack nemo --fabric rail-400g --fix tp=8,zero=1",
    "s=1;model=gpt2-124m;gpu=rtx-3090;gpus=1": "gpt2-124m --gpu rtx-3090 --gpus 1",
}  # fmt: skip


def answered(capsys, words):
    """Return a document's text without the lines that say how it was asked and how fast."""
    assert run(words) == 0
    return re.sub(r'\n  "(command|search_cpu_s)": .*', "", capsys.readouterr().out)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_same_scenario_is_the_same_document_byte_for_byte(capsys, scenario):
    by_url = answered(capsys, ["plan", "--url", HERE + scenario, "--json"])
    by_flags = answered(capsys, ["plan", *SCENARIOS[scenario].split(), "--json"])
    assert by_url == by_flags
    assert json.loads(by_url)["schema"] == "crore.plan/1"


def test_flags_are_laid_over_an_address(capsys):
    url = f"{HERE}s=1;model=gpt2-124m;gpu=rtx-3090;gpus=1"
    over = answered(capsys, ["plan", "--url", url, "--gpus", "4", "--json"])
    assert over == answered(
        capsys, ["plan", "gpt2-124m", "--gpu", "rtx-3090", "--gpus", "4", "--json"]
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "an address ends in #s=1;model=…"),
        ("https://planner.example/", "an address ends in #s=1;model=…"),
        (f"{HERE}s=2;model=gpt2", "an address ends in #s=1;model=…"),
        (f"{HERE}s=1;gpus=8", "a scenario names its model"),
        (f"{HERE}s=1;model=gpt2", "needs --gpu and --gpus"),
        (f"{HERE}s=1;model=gpt2;gpu=h100-sxm;gpus=-5", "did you mean 5?"),
        (f"{HERE}s=1;model=gpt2;gpu=h1000-sxm;gpus=8", "h100-sxm"),
        (f"{HERE}s=1;model=gpt2;gpu=h100-sxm;gpus=8;colour=red", "unknown key of a scenario"),
        (f"{HERE}s=1;model=gpt2;gpu=h100-sxm;gpus=8;fix=dp=8", "dp_shard"),
        (f"{HERE}s=1;model={'x' * 3000}", "at most 2,000 characters"),
    ],
)
def test_a_bad_address_is_one_line(capsys, url, said):
    assert run(["plan", "--url", url]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert len(err.rstrip()) <= MAX_MESSAGE_CHARS


def test_an_address_and_a_model_are_one_too_many_and_neither_is_too_few(capsys):
    assert run(["plan", "gpt2", "--url", f"{HERE}s=1;model=gpt2"]) == 2
    assert "--url names the model" in capsys.readouterr().err
    assert run(["plan"]) == 2
    assert "needs MODEL|MISSION" in capsys.readouterr().err
