"""`crore sites`: a mission's islands placed, what the grids cannot hold, bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crore.cli import run

PLACE = """\
[sites.{name}]
latitude = 40
longitude = {east}
grid_mw = {grid}
usd_per_kwh = 0.05
carbon_kg_per_kwh = 0.3
source = "a test"
date = "2026"
"""
MISSION = """\
model = "llama-3.1-8b"
stack = "crore"
[data]
tokens = "1T"
[cluster]
gpu = "h100-sxm"
gpus = 512
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m.toml").write_text(MISSION, encoding="utf-8")
    rows = [PLACE.format(name=name, east=east, grid=5) for name, east in (("a", 0), ("b", 9))]
    Path("places.toml").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def test_one_island_stands_on_one_site(capsys):
    assert run(["sites", "m.toml", "--from", "places.toml"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 site for 1 island,")
    assert max(map(len, out.splitlines())) <= 120


def test_the_document_adds_up(capsys):
    words = ["sites", "m.toml", "--from", "places.toml", "--carbon-price", "100", "--json"]
    assert run(words) == 0
    found = json.loads(capsys.readouterr().out)
    one = found["placed"][0]
    assert found["cost_usd"] == pytest.approx(one["usd"] + one["co2_kg"] / 1000 * 100)
    assert one["wan_bytes_per_s"] == 0
    assert one["source"] == "a test"


def test_grids_that_are_too_small_are_said(capsys):
    Path("places.toml").write_text(PLACE.format(name="a", east=0, grid=0.5), encoding="utf-8")
    assert run(["sites", "m.toml", "--from", "places.toml"]) == 1
    assert "hold 0 islands" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gpt2", "no mission and no plan"),
        ("m.toml --from none.toml", "none.toml"),
        ("m.toml --carbon-price -5", "not below 0"),
        ("m.toml --latency-ms 0", "above 0"),
        ("m.toml --latency-ms nan", "above 0"),
        ("m.toml -o m.toml", "m.toml"),
    ],
)
def test_bad_input_is_one_line(words, said, capsys):
    assert run(["sites", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_site_without_a_grid_is_refused(capsys):
    Path("places.toml").write_text(PLACE.format(name="a", east=0, grid=0), encoding="utf-8")
    assert run(["sites", "m.toml", "--from", "places.toml"]) == 2
    assert "has no grid" in capsys.readouterr().err
