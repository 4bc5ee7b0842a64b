"""The page without scripts: the sheet's own point in words and tables, whole and readable.

The script of the page moves the same elements (`page/view.js`); captions, heads and titles are
written here alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crore.io import Record
from crore.report.answered import answer
from crore.report.controls import controls, help_box
from crore.report.figures import figures, run_section
from crore.report.markup import Html, items, join, table, tag

KINDS: Final = {"plan": "a plan", "mission": "a mission", "run": "a training run"}


def body(sheet: Record) -> Html:
    """Return the inside of `<body>`, in the order of questions."""
    point = whole(sheet, sheet["own"])
    inside = [
        run_section(sheet) if sheet["run"] else None,
        controls(sheet, point),
        answer(sheet, point),
        figures(sheet, point),
        *_rest(sheet),
    ]
    return join([_head(sheet), tag("main", *inside, id="main"), _foot(sheet), help_box()])


def whole(sheet: Record, index: int) -> Record:
    """Return a point with what it takes from the one whose plan it has (`like`)."""
    point = sheet["points"][index]
    like = {} if point.get("like") is None else sheet["points"][point["like"]]
    return {**like, **point}


def _head(sheet: Record) -> Html:
    kind = join([tag("span", "crore", class_="brand"), " ", KINDS[sheet["kind"]]])
    return tag(
        "header",
        tag("a", "Skip to the answer", href="#answer", class_="skip"),
        tag("p", kind, class_="kind"),
        tag("h1", sheet["title"]),
        tag("p", sheet["note"], class_="note") if sheet["note"] else None,
        tag("p", *sheet["summary"][:1], class_="lead"),
        tag("ul", items(sheet["summary"][1:]), class_="summary"),
        class_="head",
    )


def _rest(sheet: Record) -> list[Html]:
    shown = [_compare(sheet)]
    if sheet["assumptions"]:
        shown.append(_section("assumptions", "Assumptions", table(sheet["assumptions"])))
    missing = tag("ul", items(sheet["not_modelled"]))
    shown.append(_section("missing", "Not modelled", missing))
    if sheet["launch"]:
        shown.append(_section("launch", "Launch files", *_files(sheet["launch"])))
    pairs = (
        tag("div", tag("dt", label), tag("dd", tag("code", text)))
        for label, text in sheet["reproduce"]
    )
    return [*shown, _section("reproduce", "Reproduce", tag("dl", *pairs, class_="pairs"))]


def _section(key: str, title: str, *inside: Html) -> Html:
    return tag("section", tag("h2", title), *inside, id=key)


def _compare(sheet: Record) -> Html:
    """Return the place of pinned points, empty until one is pinned."""
    note = tag("p", sheet["compare_note"], class_="note")
    places = (tag("div", id="pins"), tag("div", id="causes"))
    return tag("section", tag("h2", "Compare"), note, *places, id="compare", hidden=True)


def _files(files: list[Record]) -> Iterator[Html]:
    for i, one in enumerate(files):
        place = f"launch-{i}"
        copy = tag("button", "Copy", type="button", class_="quiet js-only", data_copy=place)
        text = tag("pre", tag("code", one["text"], id=place), tabindex="0")
        command = tag("p", tag("code", one["command"]))
        yield tag("details", tag("summary", one["name"]), command, text, copy)


def _foot(sheet: Record) -> Html:
    words = f"crore {sheet['crore']} · {sheet['schema']} · {sheet['source']}"
    return tag("footer", tag("p", words))
