"""The answer reads as a verdict, then one table."""

from __future__ import annotations

import pytest

from crore.plan.fit import FitRequest, make_fit
from crore.plan.text.fit import render_fit
from crore.plan.text.screen import Screen


@pytest.fixture(scope="module")
def lines():
    return render_fit(make_fit(FitRequest(model="baichuan-13b", gpu="rtx-3090"))).split("\n")


def test_the_verdict_comes_first_and_lines_fit_a_terminal(lines):
    assert lines[0].startswith("FITS for inference int8, inference int4, QLoRA nf4; not for ")
    assert lines[1] == (
        "baichuan-13b (13.3B parameters) on 1 x rtx-3090, 25.8 GB; 4,096 tokens, batch 1"
    )
    assert max(map(len, lines)) <= 120


def test_each_mode_is_one_row(lines):
    cells = {line.split("  ")[0]: line for line in lines[3:10]}
    assert next(iter(cells)) == "mode"
    assert len(cells) == 7
    assert "no, 5.0" in cells["inference fp16"]
    assert cells["inference fp16"].endswith("none")
    assert "FITS" in cells["inference int8"]


def test_the_largest_models_and_the_assumptions_follow(lines):
    assert "largest released model of the catalogue that fits, 4,096 tokens" in lines
    assert any(line.startswith("assumed context 4,096 tokens (default)") for line in lines)


def test_a_table_of_positions_and_an_open_end_are_said():
    gpt = render_fit(make_fit(FitRequest(model="gpt2-124m", gpu="rtx-3090")))
    assert gpt.count("1,024 (learned positions end)") == 6
    mistral = render_fit(make_fit(FitRequest(model="mistral-7b", gpu="rtx-3090")))
    assert mistral.count("no limit") == 3


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_its_screen(columns):
    fit = make_fit(FitRequest(model="llama-3.1-8b", gpu="rtx-3090"))
    text = render_fit(fit, Screen(columns=columns))
    assert max(map(len, text.splitlines())) <= columns
    assert sorted(text.split()) == sorted(render_fit(fit).split())


def test_a_notebook_shows_the_modes_and_text_where_there_is_no_html():
    fit = make_fit(FitRequest(model="baichuan-13b", gpu="rtx-3090"))
    shown = fit._repr_mimebundle_()
    assert shown["text/plain"] == render_fit(fit)
    assert shown["text/html"] == fit._repr_html_()
    assert shown["text/html"].startswith(f"<div><p><b>{fit.verdict}</b>")
    for row in fit.modes:
        assert f"<th>{row.mode}</th>" in shown["text/html"]
