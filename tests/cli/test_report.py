"""`crore report` and `crore replay`: a page that opens, says what the plan says, and comes back."""

from __future__ import annotations

import io
import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from crore.cli import run

PLAN = "plan llama-3.1-8b --gpu h100-sxm --gpus 16 --tokens 100B"


def schema(name: str) -> dict[str, object]:
    """Return a shipped schema."""
    text = (files("crore") / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plan and its page."""
    made: Path = tmp_path_factory.mktemp("report")
    assert run([*PLAN.split(), "-o", str(made / "plan.json")]) == 0
    page = ["report", str(made / "plan.json"), "--alone", "-o", str(made / "page.html")]
    assert run(page) == 0
    return made


def test_a_page_and_its_text_say_the_verdict_of_the_plan(folder):
    verdict = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["verdict"]
    html = (folder / "page.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert len(html.encode()) <= 500_000
    words = " ".join(verdict.split())
    assert words in " ".join((folder / "page.md").read_text(encoding="utf-8").split())


def test_a_page_asks_for_nothing_from_outside(folder):
    html = (folder / "page.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#)[^"]', html)
    assert "@import" not in html


def test_the_document_is_as_its_schema_says(folder, capsys):
    target = str(folder / "plan.json")
    assert run(["report", target, "--alone", "-o", str(folder / "again.html"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema("report"))
    assert list(document)[:4] == ["schema", "crore", "command", "constants_sha256"]


def test_a_plan_can_be_piped(folder, capsys, monkeypatch):
    capsys.readouterr()
    assert run([*PLAN.split(), "--json"]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(capsys.readouterr().out))
    assert run(["report", "-", "--alone", "-o", str(folder / "piped.html")]) == 0
    assert "FITS" in capsys.readouterr().out


def test_a_page_replayed_is_the_same(folder, capsys):
    assert run(["replay", str(folder / "page.html")]) == 0
    assert "nothing differs" in capsys.readouterr().out


def test_a_page_that_was_changed_is_found_out(folder, capsys):
    html = (folder / "page.html").read_text(encoding="utf-8")
    sheet = html.rindex('<script type="application/json"')
    changed = html[:sheet] + re.sub(r'("verdict":"FITS  )\d', r"\g<1>1", html[sheet:], count=1)
    (folder / "changed.html").write_text(changed, encoding="utf-8")
    assert run(["replay", str(folder / "changed.html")]) == 1
    assert "points.0.verdict" in capsys.readouterr().out
    assert run(["replay", str(folder / "changed.html"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema("replay"))
    assert [it["place"] for it in document["differences"]] == ["points.0.verdict"]


def test_a_limit_that_a_sweep_leaves_out_is_told_and_an_impossible_one_is_infeasible(
    tmp_path, capsys
):
    mission, page = tmp_path / "mine.toml", tmp_path / "page.html"
    machines = '[cluster]\ngpu = "h100-sxm"\ngpus = 64\n'
    asked = f'model = "llama-3.1-8b"\n[data]\ntokens = "1T"\n{machines}'
    words = ["report", str(mission), "--alone", "-o", str(page)]
    mission.write_text(f"{asked}[limits]\ndays = 1\n")
    assert run(words) == 1
    assert "such GPUs would do" in capsys.readouterr().err
    assert not page.exists()
    mission.write_text(f"{asked}[limits]\ndays = 100\n")
    assert run(words) == 0
    assert capsys.readouterr().err.startswith("limits.days: kept by the mission's own GPUs")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("report nosuch", "no run, plan, sweep or mission"),
        ("report ten_milion", "did you mean ten_million?"),
        ("report .", "holds no run"),
        ("report ten_million -o nowhere/page.html", "there is no folder"),
        ("report ten_million -o page.md", "name the page .html"),
        ("report plan.json -o plan.json", "plan.json"),
        ("report bad.toml", "h1000"),
        ("report nomodel.toml", "unknown model"),
        ("report damaged.json", "damaged"),
        ("report other.json", "schema"),
        ("replay page.md", "holds no sheet"),
        ("replay newer.html", "install a newer crore"),
        ("replay broken.html", "damaged"),
        ("replay nosuch.html", "nosuch.html"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(folder, capsys, monkeypatch, words, why):
    monkeypatch.chdir(folder)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    (folder / "damaged.json").write_text(json.dumps({**plan, "layout": 3}), encoding="utf-8")
    (folder / "other.json").write_text('{"schema": "crore.fit/1"}', encoding="utf-8")
    (folder / "nomodel.toml").write_text(
        'model = "gpt2x"\n[cluster]\ngpu = "h100-sxm"\ngpus = 8\n', encoding="utf-8"
    )
    (folder / "bad.toml").write_text('model = "gpt2"\n[cluster]\ngpu = "h1000"\ngpus = 8\n')
    page = '<script type="application/json" id="sheet">{}</script>'
    newer = '{"schema":"crore.report/99"}'
    (folder / "newer.html").write_text(page.format(newer), encoding="utf-8")
    (folder / "broken.html").write_text(page.format('{"schema":'), encoding="utf-8")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert run(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err
    assert err.count("\n") == 1
    assert len(err) <= 241
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
