"""The SVG writer: well-formed whatever the words, readable by who listens, nothing loaded."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.plan.text.scale import Scale
from crore.plan.text.svg import Svg, clipped, number

SPACE = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> Any:
    """Return a picture of ours as a tree."""
    return fromstring(svg)  # noqa: S314


@given(st.text(), st.text())
def test_words_are_never_markup(title, words):
    svg = Svg(100, 50, title, words)
    svg.text((1, 2), words, turned=True, anchor="middle")
    root = parsed(str(svg))
    plain = "".join(c for c in words if c.isprintable())
    assert (root[1].text or "") == plain
    assert [it.text or "" for it in root.iter(f"{SPACE}text")] == [plain]


def test_a_picture_says_what_it_is_and_loads_nothing():
    svg = Svg(100, 50, "A title", "What it shows")
    svg.dots([(1, 2), (3, 4)], "red", opacity=0.5)
    svg.line([(0, 0), (10, 10.04)], "blue", dash="4 3")
    text = str(svg)
    root = parsed(text)
    assert root.get("role") == "img"
    assert [root[0].tag, root[1].tag] == [f"{SPACE}title", f"{SPACE}desc"]
    assert text.count("http") == 1  # the namespace
    for loaded in ("href", "url(", "<style", "<script", "font-face"):
        assert loaded not in text


def test_axes_write_their_ticks():
    svg = Svg(300, 200, "", "")
    svg.across(Scale(low=0, high=100, start=50, end=250, log=False), (10, 150), str, "days")
    svg.upwards(Scale(low=1, high=1000, start=150, end=10, log=True), (50, 250), str, "dollars")
    words = [it.text for it in parsed(str(svg)).iter(f"{SPACE}text")]
    assert {"days", "dollars", "0.0", "100.0", "1.0", "1000.0"} <= set(words)


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (1.25, "1.2"), (-0.01, "0"), (100.0, "100"), (1234.56, "1234.6")]
)
def test_lengths_are_short(value, text):
    assert float(number(value)) == pytest.approx(float(text))
    assert len(number(value)) <= len(text)


def test_long_words_are_cut_and_say_so():
    assert clipped("short", 200) == "short"
    assert clipped("x" * 500, 100).endswith("…")
    assert len(clipped("x" * 500, 100)) * 12 * 0.56 <= 100
