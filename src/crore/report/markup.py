"""HTML as text: elements whose every text and attribute is escaped, so that data stays data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final

from crore.io import Record

VOID: Final = {"input", "meta", "br"}


class Html(str):
    """Markup that is whole already; any other text is escaped where it is put in."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | bool | None) -> Html:
    """Return an element; attributes that are False or None are left out, True stands alone.

    `class_` is `class`, and `_` inside a name is `-` (`aria_label`).
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{join(children)}</{name}>")


def join(children: Iterable[str | None]) -> Html:
    """Return children in a row: `Html` as it is, text escaped, None left out."""
    return Html("".join(_child(child) for child in children if child is not None))


def items(texts: Iterable[str]) -> Html:
    """Return one `<li>` per text."""
    return join(tag("li", text) for text in texts)


def rows(body: Iterable[Sequence[str]]) -> Html:
    """Return the rows of a table; the first cell names its row."""
    return join(
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
        for row in body
    )


def table(one: Record) -> Html:
    """Return a table of the sheet (`caption, head, rows`) that scrolls where it is too wide."""
    head = tag("tr", *(tag("th", text, scope="col") for text in one["head"]))
    whole = tag(
        "table",
        tag("caption", one["caption"]),
        tag("thead", head),
        tag("tbody", rows(one["rows"])),
    )
    return tag(
        "div", whole, class_="scroll", tabindex="0", role="region", aria_label=one["caption"]
    )


def _attribute(key: str, value: str | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(value)}"'


def _child(child: str) -> str:
    return child if isinstance(child, Html) else html.escape(child)
