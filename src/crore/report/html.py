"""A sheet as one HTML file that opens from disk, offline, and asks for nothing from outside."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from importlib import resources
from typing import Final

from crore import __version__
from crore.io import Record
from crore.report.markup import Html, join, tag
from crore.report.static import body

BUNDLE: Final = "plot.min.js"
SCRIPTS: Final = ("dom.js", "state.js", "plots.js", "view.js", "pins.js", "live.js", "main.js")
PATTERNS: Final = 10
"""Colours of the page, each with a stripe of its own."""


def page(sheet: Record) -> str:
    """Return the whole file: styles, the readable page, the sheet, Plot and the page's script.

    Nothing is loaded from anywhere, and only the two scripts whose hashes the head names can run.
    A sheet with `live` may ask the server it came from.
    """
    scripts = [_file(BUNDLE), _own_script()]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts, sheet)),
        tag("meta", name="generator", content=f"crore {__version__}"),
        tag("title", sheet["title"]),
        tag("style", Html(_file("page.css"))),
    )
    whole = tag(
        "body",
        _patterns(),
        body(sheet),
        tag("script", Html(embedded(sheet)), type="application/json", id="sheet"),
        *(tag("script", Html(text)) for text in scripts),
    )
    return f"<!doctype html>\n{tag('html', head, whole, lang='en')}\n"


def embedded(sheet: Record) -> str:
    """Return the sheet as JSON that no text in it can end: `<` is written as its escape."""
    text = json.dumps(sheet, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _policy(scripts: list[str], sheet: Record) -> str:
    """Return what the page may do: run its two scripts, style itself, ask its own server."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    asked = "'self'" if sheet["live"] else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"connect-src {asked}; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def _file(name: str) -> str:
    """Return a file of the page; what only its writers read, indents and comments, stays behind."""
    text = (resources.files("crore.report") / "page" / name).read_text(encoding="utf-8")
    if name == BUNDLE:
        return text
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("// ")) + "\n"


@functools.cache
def _own_script() -> str:
    """Return the page's files as one script with names of its own."""
    inside = "\n".join(_file(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{inside}}})();'


def _patterns() -> Html:
    """Return the hatches that pictures fill with: what does not fit, and every second kind."""
    lines = Html('<path d="M-2,2l4,-4M0,8l8,-8M6,10l4,-4" stroke-width="2" style="stroke: {}"/>')
    stripes = [
        Html(
            f'<pattern id="stripe{i}" width="8" height="8" patternUnits="userSpaceOnUse">'
            f'<rect width="8" height="8" style="fill: var(--c{i}); fill-opacity: 0.35"/>'
            f"{lines.format(f'var(--c{i})')}</pattern>"
        )
        for i in range(PATTERNS)
    ]
    beyond = Html(
        '<pattern id="beyond" width="7" height="7" patternUnits="userSpaceOnUse">'
        '<path d="M0,0l7,7" stroke-width="1" style="stroke: var(--line)"/></pattern>'
    )
    hatch = Html(
        '<pattern id="hatch" width="8" height="8" patternUnits="userSpaceOnUse">'
        f"{lines.format('var(--bad)')}</pattern>"
    )
    drawn = join([hatch, beyond, *stripes])
    return tag("svg", tag("defs", drawn), width="0", height="0", aria_hidden="true", class_="defs")
