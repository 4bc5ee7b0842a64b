"""The answer of a point: badge, verdict, cards, how sure, what limits it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from crore.io import Record
from crore.report.markup import Html, items, tag

BADGES: Final = {
    "fits": ("✓", "Fits"),
    "short": ("✕", "Does not fit"),
    "idle": ("◐", "Fits, GPUs idle"),
    "none": ("✕", "No plan"),
}
"""Of a point's state: a mark and words; `page/view.js` has the same."""
OTHER: Final = (
    "The curves over all GPUs are those of the scenario this page was made for; the dots and the "
    "figures are the answer to what was asked."
)
STATE_WORDS: Final = re.compile(r"^(FITS|DOES NOT FIT|NO PLAN)\s+")


def answer(sheet: Record, point: Record) -> Html:
    """Return the section that says whether it fits, how long, how much, and how sure."""
    mark, words = BADGES[point["state"]]
    badge = tag("span", mark, aria_hidden="true")
    heading = tag(
        "h2",
        tag("span", badge, words, id="badge", class_="badge", data_state=point["state"]),
        " ",
        tag("span", point["aria"], id="count"),
    )
    reason = "" if point["reason"] in point["verdict"] else point["reason"]
    facts = point["facts"]
    return tag(
        "section",
        heading,
        tag("p", STATE_WORDS.sub("", point["verdict"]), id="verdict"),
        tag("p", reason, id="reason"),
        tag("p", OTHER, id="other", hidden=True),
        tag("dl", *cards(sheet, facts), id="facts", class_="cards"),
        tag("div", *_sure(sheet, facts), id="sure", hidden=not facts),
        tag("div", *_boxes(point), class_="boxes"),
        _words(sheet["words"]),
        id="answer",
        tabindex="-1",
    )


def _boxes(point: Record) -> Iterator[Html]:
    for key, title in (("limit", "What limits it"), ("layout", "Layout")):
        yield _box(title, tag("p", point[key], id=key), bool(point[key]))
    for key, title in (("news", "New at this size"), ("change", "What to change")):
        yield _box(title, tag("ul", items(point[key]), id=key), bool(point[key]))


def _words(pairs: list[list[str]]) -> Html:
    """Return what the words of the page mean, folded."""
    entries = (tag("div", tag("dt", word), tag("dd", meaning)) for word, meaning in pairs)
    title = tag("summary", "Words used here")
    return tag("details", title, tag("dl", *entries, class_="pairs"), id="words", open=True)


def _box(title: str, inside: Html, shown: bool) -> Html:
    return tag("div", tag("h3", title), inside, class_="box", hidden=not shown)


def _evidence_tag(evidence: str) -> Html | None:
    return tag("span", evidence, class_="tag", data_evidence=evidence) if evidence else None


def cards(sheet: Record, facts: Iterable[list[str]]) -> Iterator[Html]:
    """Yield a card per fact: `key, value, range, evidence, why`."""
    for key, value, span, evidence, why in facts:
        shown = (
            tag("strong", value),
            tag("span", span, class_="range"),
            _evidence_tag(evidence),
            tag("span", why, class_="why"),
        )
        yield tag("div", tag("dt", sheet["facts"].get(key, key)), tag("dd", *shown), class_="card")


def _sure(sheet: Record, facts: list[list[str]]) -> Iterator[Html]:
    """Yield how sure the figures are: what stands behind each of them."""
    yield tag("h3", "How sure")
    yield tag("p", sheet["range_note"], class_="note")
    yield tag("ul", *_evidence(sheet, facts), id="evidence", class_="evidence")


def _evidence(sheet: Record, facts: Iterable[list[str]]) -> Iterator[Html]:
    groups: dict[str, list[str]] = {}
    for key, _, _, evidence, _ in facts:
        groups.setdefault(evidence, []).append(sheet["facts"].get(key, key))
    for evidence, labels in groups.items():
        yield tag("li", _evidence_tag(evidence), ", ".join(labels))
