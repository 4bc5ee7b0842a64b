"""The page as text: one file, readable without scripts, closed to the outside and to markup."""

from __future__ import annotations

import base64
import copy
import hashlib
import html
import json
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest
from tests.report.small_sheet import NASTY, small_sheet

from crore.report.answered import BADGES
from crore.report.html import embedded, page
from crore.report.markup import table, tag
from crore.report.replay import read_report
from crore.report.static import body

MOST_BYTES = 500_000
FILES = resources.files("crore.report") / "page"


class Reader(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text of a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts_of(one)


def test_nothing_is_loaded_from_anywhere():
    elements = Reader(page(small_sheet())).elements
    held = [
        value
        for _, attributes in elements
        for key, value in attributes.items()
        if key in ("src", "href", "action", "srcset", "data", "poster")
    ]
    assert all(value and value.startswith("#") for value in held)
    assert not any(name in ("link", "iframe", "object", "img") for name, _ in elements)


def test_the_two_scripts_of_the_page_are_all_that_may_run():
    text = page(small_sheet())
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    allowed = re.findall(r"'sha256-([^']*)'", html.unescape(policy))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    for script, known in zip(scripts, allowed, strict=True):
        assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == known
    assert "default-src 'none'" in html.unescape(policy)
    assert "connect-src 'none'" in html.unescape(policy)


def test_a_page_with_a_server_may_ask_that_one_alone():
    live = {"url": "plan", "models": ["small"], "gpus": ["h100-sxm"]}
    assert "connect-src 'self'" in html.unescape(page(small_sheet(live=live)))


def test_the_sheet_is_in_the_page_as_it_was(tmp_path):
    sheet = small_sheet(NASTY)
    file = tmp_path / "report.html"
    file.write_text(page(sheet), encoding="utf-8")
    assert read_report(file) == json.loads(json.dumps(sheet))


def test_no_text_of_the_sheet_becomes_markup():
    def poisoned(value: Any) -> Any:
        if isinstance(value, str) and value not in kept:
            return value + NASTY
        if isinstance(value, dict):
            return {key: poisoned(one) for key, one in value.items()}
        return [poisoned(one) for one in value] if isinstance(value, list) else value

    sheet = small_sheet()
    kept = {"run", "fits", "short", "idle", "none", "log", "linear"}
    plain = [name for name, _ in Reader(page(sheet)).elements]
    assert [name for name, _ in Reader(page(poisoned(copy.deepcopy(sheet)))).elements] == plain


def test_markup_escapes_texts_and_attributes():
    assert tag("p", "<b>&", title='"<') == '<p title="&quot;&lt;">&lt;b&gt;&amp;</p>'
    assert tag("p", tag("b", "x"), None, hidden=True, id=None) == "<p hidden><b>x</b></p>"
    assert "&lt;i&gt;" in table({"caption": "<i>", "head": ["a"], "rows": [["b"]]})
    assert "</script" not in embedded({"text": NASTY}).lower()


@pytest.mark.parametrize("own", [0, 5, 12, 40, -1])
def test_without_scripts_every_text_of_the_own_point_is_there(own):
    sheet = small_sheet()
    sheet["own"] = own % len(sheet["points"])
    point = sheet["points"][sheet["own"]]
    shown = html.unescape(re.sub(r"<[^>]*>", "\n", body(sheet)))
    for text in texts_of({k: v for k, v in point.items() if k not in ("used_text", "drivers")}):
        words = text.split("  ")[-1]  # the badge says FITS
        assert words in shown or text in ("days", "usd", "co2", point["state"]), text
    run = {key: sheet["run"][key] for key in ("checks", "events")}
    tables = [one["table"] for one in (*sheet["run"]["plots"], sheet["supply"], sheet["timeline"])]
    keys = ("summary", "not_modelled", "assumptions", "tables", "reproduce", "launch")
    for text in texts_of([run, *tables, *(sheet[key] for key in keys)]):
        assert text in shown, text


def test_the_script_and_the_page_use_the_same_words_for_a_state():
    script = (FILES / "view.js").read_text(encoding="utf-8")
    for state, (mark, words) in BADGES.items():
        assert f'{state}: ["{mark}", "{words}"]' in script


def test_plot_is_the_bundle_its_card_names_and_brings_its_licence():
    card = tomllib.loads((FILES / "plot.toml").read_text(encoding="utf-8"))
    bundle = (FILES / "plot.min.js").read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == card["sha256"]
    assert len(bundle) == card["bytes"]
    text = page(small_sheet())
    for name in card["inside"]:
        assert name.rpartition(" ")[0] in text
    assert "Permission to use, copy, modify, and/or distribute this software" in text


def test_scripts_put_text_in_as_text():
    for file in FILES.iterdir():
        if file.name.endswith(".js") and file.name != "plot.min.js":
            code = file.read_text(encoding="utf-8")
            for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
                assert way not in code
            assert "toFixed" not in code
            assert "toLocaleString" not in code
            assert "toPrecision" not in code


def test_a_whole_page_stays_below_half_a_megabyte(real_sheet):
    assert len(page(real_sheet).encode()) <= MOST_BYTES
