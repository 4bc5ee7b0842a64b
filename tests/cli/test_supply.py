"""`crore supply`: a scenario or a mission, a year or a reason; bad input is one line."""

from __future__ import annotations

import json

import pytest

from crore.cli import run


def test_the_article_never_gets_there(capsys):
    assert run(["supply", "--scenario", "article", "--units", "10M"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("NEVER  10M GPUs, because 1M units a year")
    assert "+20 points a year: 6.57 years" in out


def test_without_wear_it_takes_ten_years(capsys):
    words = "--scenario article --units 10.02M --attrition 0 --life 100 --draws 10 --json"
    assert run(["supply", *words.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["units"]["likely_years"] == pytest.approx(10.0, abs=1e-3)


def test_a_mission_is_planned_in_phases(capsys, tmp_path):
    mission = tmp_path / "m.toml"
    mission.write_text(
        'model = "llama-3.1-8b"\nstack = "crore"\n[data]\ntokens = "1T"\n'
        '[cluster]\ngpu = "h100-sxm"\ngpus = 1024\n',
        encoding="utf-8",
    )
    assert run(["supply", str(mission), "--draws", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scenario"] == "announced"
    gpus = [phase["gpus"] for phase in found["phases"]]
    assert gpus == sorted(gpus)
    assert gpus[-1] == found["units"]["target"] == 1024
    assert [it["way"] for it in found["starts"]] == ["waiting", "rigid", "elastic"]


def test_a_supply_that_falls_says_so(capsys):
    words = "supply --scenario article --units 10M --growth -0.5 --draws 10"
    assert run(words.split()) == 1
    assert "supply falls by 50.0% a year" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "needs a mission or --scenario"),
        ("--scenario article --units 0", "--units"),
        ("--scenario artikel --units 5", "did you mean article"),
        ("--scenario article --units 5 --share -0.1", "buyer_share is 0 to 1, not -0.1"),
        ("--scenario article --units 5 --share 0", "gets nothing"),
        ("--scenario article --units 5 --life 0", "life_years is 0.1 to 100"),
        ("--scenario article --units 5 --growth nan", "growth_per_year is -0.99 to 10, not nan"),
        ("plan.json --scenario article -o plan.json", "plan.json"),
        ("--scenario article --units 5 --draws 0", "--draws is 1 to"),
        ("gpt2", "no mission and no plan"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys):
    assert run(["supply", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
