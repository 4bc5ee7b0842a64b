"""The page on Python runs, from top to bottom, and names the fields there are."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from crore.plan import Plan

PAGE = (Path(__file__).parents[2] / "docs/guide/python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "python.md", "exec"), namespace)  # noqa: S102
    out = capsys.readouterr().out
    assert "\nB takes " in out
    assert "does not fit: llama3.1-405b" in out
    assert "did you mean h100" in out
    assert (tmp_path / "comparison.html").read_text(encoding="utf-8").startswith("<div>")


def test_the_table_names_fields_of_a_plan_and_no_others():
    rows = re.findall(r"^\| (`.*?`) \|", PAGE, re.M)
    named = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert len(named) > 20
    assert named <= {f.name for f in fields(Plan)}
