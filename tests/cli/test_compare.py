"""`crore compare` plans its targets and says why they differ."""

from __future__ import annotations

import json

import pytest

from crore.cli import run
from crore.cli.compare import parted
from crore.errors import InputError, UnknownName

H100 = ["--gpu", "h100-sxm", "--gpus", "16"]
PAIR = ["compare", "llama-3.1-8b", "llama-2-7b:seq_len=4096", *H100]


def record(capsys, *arguments):
    assert run(["compare", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_first_line_is_the_verdict(capsys):
    assert run(PAIR) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("B takes 0.")
    assert "A  llama-3.1-8b: llama3-8b on 16 x h100-sxm, 161B tokens, stack megatron-2025" in lines


def test_json_says_the_same(capsys):
    made = record(capsys, *PAIR[1:])
    assert made["schema"] == "crore.compare/1"
    assert [t["name"] for t in made["targets"]] == ["llama-3.1-8b", "llama-2-7b:seq_len=4096"]
    assert [t["plan"]["seq_len"] for t in made["targets"]] == [8192, 4096]
    assert abs(made["differences"][0]["days"]["residual"]) < 1e-9


def test_flags_go_for_all_and_a_targets_own_keys_before_them(capsys):
    made = record(
        capsys, "llama-3.1-8b", "llama-3.1-8b:tp=2,gpu=h200-sxm,memory=100 GB,days=900", *H100,
        "--fix", "tp=4,micro_batch=1", "--limit", "days=800,memory=70 GB", "--tokens", "1T",
    )  # fmt: skip
    first, second = (t["plan"]["request"] for t in made["targets"])
    assert first["fix"] == {"tp": 4, "micro_batch": 1}
    assert second["fix"] == {"tp": 2, "micro_batch": 1}
    assert (first["gpu"], second["gpu"]) == ("h100-sxm", "h200-sxm")
    assert (first["limits"]["days"], second["limits"]["days"]) == (800, 900)
    assert second["limits"]["memory_bytes"] == 100e9
    assert (first["tokens"], second["tokens"]) == (10**12, 10**12)


def test_rented_and_owned_stand_side_by_side(capsys):
    targets = [f"llama-3.1-8b:basis={basis}" for basis in ("rented", "owned")]
    made = record(capsys, *targets, *H100)
    rented, owned = (t["plan"] for t in made["targets"])
    assert [p["economy"]["usd_basis"][:6] for p in (rented, owned)] == ["rented", "owned:"]
    assert rented["days"] == owned["days"]
    price = made["differences"][0]["usd"]["factors"][-1]
    assert price["name"] == "price of a GPU-hour"
    assert price["before"] == rented["economy"]["usd_per_gpu_hour"]["value"]
    assert run(["compare", *targets, *H100]) == 0
    text = capsys.readouterr().out
    assert "capital        none " in text
    assert "priced as      rented " in text


def test_missions_and_mission_files_are_targets(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('model = "llama-3.1-8b"\n[cluster]\ngpu = "h100-sxm"\ngpus = 8\n')
    made = record(capsys, "llama3_405b:gpus=8192", str(file), f"{file}:gpus=16")
    assert [t["plan"]["gpus"] for t in made["targets"]] == [8192, 8, 16]


def test_a_plan_file_is_planned_again(capsys, tmp_path):
    file = tmp_path / "plan.json"
    assert run(["plan", "llama-3.1-8b", *H100, "--fix", "tp=2", "-o", str(file)]) == 0
    capsys.readouterr()
    made = record(capsys, str(file), f"{file}:gpus=32")
    first, second = (t["plan"] for t in made["targets"])
    then = json.loads(file.read_text())
    assert all(first[key] == then[key] for key in ("request", "layout", "days", "economy"))
    assert (second["gpus"], second["layout"]["tp"]) == (32, 2)
    assert "planned again from its request, with the same result" in made["notes"][0]
    assert f"{second['days']['value']:.4g} days now" in made["notes"][1]


def test_a_target_that_does_not_fit_is_named(capsys):
    assert run(["compare", "llama-3.1-8b", "llama-3.1-405b:gpus=8", *H100]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("crore: llama-3.1-405b:gpus=8: does not fit: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["llama-3.1-8b", *H100], "takes 2 to 6 targets, not 1"),
        (["llama-3.1-8b"] * 7, "takes 2 to 6 targets, not 7"),
        (["llama-3.1-8b", "llama-3.1-70b"], "llama-3.1-8b needs --gpu and --gpus"),
        (["llama-3.1-8b", "llama-3.1-8c", *H100], "did you mean llama-3.1-8b"),
        (["llama-3.1-8b", "llama-3.1-8b:gpsu=8", *H100], "did you mean gpu, gpus"),
        (["llama-3.1-8b", "llama-3.1-8b:basis=rent", *H100], "did you mean rented"),
        (["llama-3.1-8b", "llama-3.1-8b:gpus=", *H100], "gpus needs a value"),
        (["llama-3.1-8b", "llama-3.1-8b:gpus=0", *H100], "--gpus must be a whole number from 1"),
        (["llama-3.1-8b", "nothing.json", *H100], "no file nothing.json"),
        (["llama-3.1-8b", "nothing.toml", *H100], "no file nothing.toml"),
        ([], "crore compare --help"),
    ],
)
def test_bad_targets_are_exit_code_2_and_one_line(arguments, expected, capsys):
    assert run(["compare", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.count("\n") == 1
    assert len(printed.err) <= 241


def test_a_target_is_parted_at_its_last_colon():
    assert parted("a.toml") == ("a.toml", {})
    assert parted("C:/a.toml") == ("C:/a.toml", {})
    assert parted("C:/a.toml:tp=8,power=30 MW") == (
        "C:/a.toml", {"tp": "8", "power": "30 mw"},
    )  # fmt: skip
    with pytest.raises(InputError, match="names tp twice"):
        parted("a:tp=8,tp=4")
    with pytest.raises(UnknownName, match="did you mean global_batch"):
        parted("a:global_batch_tokens=16M")
