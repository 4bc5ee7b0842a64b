"""`crore explain` reads a plan file; what it cannot read or find is one line and exit code 2."""

from __future__ import annotations

import json

import pytest

from crore.cli import run


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    words = ["plan", "llama-3.1-8b", "--gpu", "h100-sxm", "--gpus", "8", "-o", str(path)]
    assert run(words) == 0
    return path


def test_a_plan_lists_its_numbers(plan, capsys):
    assert run(["explain", str(plan)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("FITS ")
    assert " step_split_s.products " in out


def test_a_number_is_walked_back(plan, capsys):
    assert run(["explain", str(plan), "mfu"]) == 0
    out = capsys.readouterr().out
    assert "model_flops_per_s_per_gpu / linear_peak" in out
    assert "catalogue, GPU h100-sxm" in out


def test_json_is_headed_by_its_schema(plan, capsys):
    assert run(["explain", str(plan), "mfu", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "crore.explain/1"
    assert record["value"] == json.loads(plan.read_text(encoding="utf-8"))["mfu"]
    assert run(["explain", str(plan), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["lines"]) > 100


def test_an_unknown_number_is_exit_code_2_with_the_nearest(plan, capsys):
    assert run(["explain", str(plan), "step_split_s.bubbel"]) == 2
    error = capsys.readouterr().err
    assert "did you mean step_split_s.bubble" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "must hold schema crore.plan or crore.fit, not none"),
        ('{"schema": "crore.run/1"}', "must hold schema crore.plan or crore.fit, not crore.run/1"),
        ('{"schema": "crore.fit/1"}', "request is missing: make it anew, crore fit -o"),
        ('{"schema": "crore.fit/99"}', "install a newer crore"),
        ('{"schema": "crore.plan/99"}', "install a newer crore"),
        ('{"schema": "crore.plan/1"}', "lacks request, layout, gpus"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, capsys, text, says):
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    assert run(["explain", str(path)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "fit.json"
    assert run(["fit", "baichuan-13b", "--gpu", "rtx-3090", "-o", str(path)]) == 0
    return path


def test_a_fit_is_explained_as_a_plan_is(fit, capsys):
    assert run(["explain", str(fit)]) == 0
    assert " tuning.QLoRA_nf4.cost_usd.p50 " in capsys.readouterr().out
    assert run(["explain", str(fit), "tuning.QLoRA_nf4.cost_usd"]) == 0
    assert "10 % of the draws are below" in capsys.readouterr().out
    assert run(["explain", str(fit), "tuning.QLoRA_nf4.cost_usd.p50", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["value"] == json.loads(fit.read_text())["tuning"][0]["cost_usd"]["p50"]
    assert "EIA Electric Power Monthly" in json.dumps(record["inputs"])


def test_json_on_stdout_is_the_same_file(fit, tmp_path, capsys):
    assert run(["fit", "baichuan-13b", "--gpu", "rtx-3090", "--json"]) == 0
    printed = tmp_path / "printed.json"
    printed.write_text(capsys.readouterr().out)
    assert {**json.loads(printed.read_text()), "command": ""} == {
        **json.loads(fit.read_text()), "command": "",
    }  # fmt: skip
    assert run(["explain", str(printed), "tuning.QLoRA_nf4.days"]) == 0


def test_an_unknown_number_of_a_fit_is_exit_code_2_with_the_nearest(fit, capsys):
    assert run(["explain", str(fit), "cost_usd"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "crore: unknown number of the fit 'cost_usd'; did you mean tuning.QLoRA_nf4.cost_usd? "
        "(all: crore explain FILE)\n"
    )


def test_a_missing_file_is_refused(capsys):
    assert run(["explain", "none.json"]) == 2
    assert "no file none.json" in capsys.readouterr().err
