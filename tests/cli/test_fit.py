"""`crore fit` answers in text or JSON, and says in one line when nothing fits."""

from __future__ import annotations

import json

import pytest

from crore.cli import run
from crore.cli.complete import complete_model

COMMAND = ["fit", "baichuan-13b", "--gpu", "rtx-3090"]


def test_the_first_line_is_the_verdict(capsys):
    assert run(COMMAND) == 0
    out = capsys.readouterr().out
    assert out.startswith("FITS for inference int8, inference int4, QLoRA nf4; not for ")


def test_json_says_the_same(capsys):
    assert run([*COMMAND, "--gpus", "2", "--context", "2k", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "crore.fit/1"
    assert (record["model"], record["gpu"], record["gpus"]) == ("baichuan-13b", "rtx-3090", 2)
    assert record["context"] == 2000
    assert len(record["modes"]) == 6
    assert record["modes"][0].keys() >= {
        "mode", "memory_bytes_per_gpu", "split_bytes", "fits", "short_bytes", "largest_context",
        "largest_batch",
    }  # fmt: skip


def test_a_mission_brings_model_gpu_and_count(capsys):
    assert run(["fit", "baichuan13b_3090", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"], record["gpu"], record["gpus"]) == ("baichuan-13b", "rtx-3090", 1)
    assert run(["fit", "llama3_405b", "--gpus", "32k", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["model"], record["gpu"], record["gpus"]) == ("llama3.1-405b", "h100-sxm", 32000)


def test_nothing_fits_is_exit_code_1_and_one_line(capsys):
    assert run(["fit", "llama-3.1-405b", "--gpu", "rtx-3090"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "16 such cards hold it; the largest that fits is " in printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fit", "baichuan-13b"], "needs --gpu, for example --gpu rtx-3090"),
        (["fit", "baichuan13b", "--gpu", "rtx-3090"], "did you mean baichuan-13b"),
        (["fit", "baichuan-13b", "--gpu", "rtx-3091"], "did you mean rtx-3090"),
        ([*COMMAND, "--context", "0"], "--context must be a whole number from 1"),
        ([*COMMAND, "--gpus", "-2"], "did you mean 2?"),
        (["fit", "gpt2-124m", "--gpu", "t4", "--context", "2k"], "1,024 learned positions"),
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(arguments, expected, capsys):
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.count("\n") == 1


def test_model_names_complete():
    assert "baichuan-13b" in complete_model("baichuan")
    assert complete_model("ten_million") == []
