"""The guide's pictures are there, and those that a command draws are what it draws now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crore.cli import run

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DRAWN = {
    "plan.svg": "plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 15.6T",
    "frontier.svg": "plan llama-3.1-8b --gpu h100-sxm --gpus 64 --tokens 1T --objective pareto",
    "compare.svg": "compare llama3_405b llama3_405b:gpus=8192,gpu=h200-sxm",
    "accuracy.svg": f"validate {ROOT / 'tests' / 'published' / 'runs.jsonl'}",
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
NEAR = 0.25
"""Pixels that rounding may move a mark by."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_picture_of_a_document_is_there(document):
    text = document.read_text(encoding="utf-8")
    named = re.findall(r'!\[[^\]]*\]\(([^)]+)\)|(?:src|srcset)="([^"]+)"', text)
    for one, other in named:
        assert (document.parent / (one or other)).is_file(), one or other
    for image in re.findall(r"<img [^>]*>", text):
        assert re.search(r'alt="[^"]{20,}"', image), f"{image[:60]} does not say what it shows"
    assert not re.findall(r"!\[\]", text)


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_picture_is_what_its_command_draws(name, tmp_path, capsys):
    made = tmp_path / name
    assert run([*DRAWN[name].split(), "--plot", str(made)]) == 0
    capsys.readouterr()
    kept, now = ((path / name).read_text(encoding="utf-8") for path in (PICTURES, tmp_path))
    again = f"draw it again: crore {DRAWN[name]} --plot docs/pictures/{name}"
    assert NUMBER.sub("#", kept) == NUMBER.sub("#", now), again
    before, after = ([float(x) for x in NUMBER.findall(text)] for text in (kept, now))
    assert after == pytest.approx(before, abs=NEAR), again


def test_every_drawn_picture_stands_in_a_document():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert all(f"pictures/{name}" in text for name in DRAWN)
