"""The page without scripts: the sheet's own point in words and tables, whole and readable.

The script of the page moves the same elements (`page/view.js`); captions, heads and titles are
written here alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from crore.io import Record
from crore.report.controls import controls, help_box
from crore.report.markup import Html, items, join, table, tag

BADGES: Final = {
    "fits": ("✓", "Fits"),
    "short": ("✕", "Does not fit"),
    "idle": ("◐", "Fits, GPUs idle"),
    "none": ("✕", "No plan"),
}
"""Of a point's state: a mark and words; `page/view.js` has the same."""
STATE_WORDS: Final = re.compile(r"^(FITS|DOES NOT FIT|NO PLAN)\s+")


def body(sheet: Record) -> Html:
    """Return the inside of `<body>`, in the order of questions."""
    point = whole(sheet, sheet["own"])
    parts = [
        _head(sheet),
        *([_run(sheet)] if sheet["run"] else []),
        controls(sheet, point),
        tag("main", _answer(sheet, point), _figures(sheet, point), *_rest(sheet), id="main"),
        _foot(sheet),
        help_box(),
    ]
    return join(parts)


def whole(sheet: Record, index: int) -> Record:
    """Return a point with what it takes from the one whose plan it has (`like`)."""
    point = sheet["points"][index]
    like = {} if point.get("like") is None else sheet["points"][point["like"]]
    return {**like, **point}


def _head(sheet: Record) -> Html:
    return tag(
        "header",
        tag("a", "Skip to the answer", href="#answer", class_="skip"),
        tag("p", tag("span", "crore", class_="brand"), " ", _kind(sheet), class_="kind"),
        tag("h1", sheet["title"]),
        tag("p", sheet["note"], class_="note") if sheet["note"] else None,
        tag("p", sheet["summary"][0], class_="lead"),
        tag("p", " ".join(sheet["summary"][1:]), class_="summary"),
        class_="head",
    )


def _kind(sheet: Record) -> str:
    words = {"plan": "a plan", "mission": "a mission", "run": "a training run"}
    return words.get(sheet["kind"], "")


def _answer(sheet: Record, point: Record) -> Html:
    mark, words = BADGES[point["state"]]
    badge = tag("span", mark, aria_hidden="true")
    heading = tag(
        "h2",
        tag("span", badge, words, id="badge", class_="badge", data_state=point["state"]),
        " ",
        tag("span", point["aria"], id="count"),
    )
    said = [("limit", "What limits it", [point["limit"]]), ("layout", "Layout", [point["layout"]])]
    lists = [("news", "New at this size", point["news"]), ("change", "What to change", point["change"])]
    boxes = [_box(key, title, tag("p", *texts, id=key), any(texts)) for key, title, texts in said]
    boxes += [
        _box(key, title, tag("ul", items(texts), id=key), bool(texts)) for key, title, texts in lists
    ]
    return tag(
        "section",
        heading,
        tag("p", STATE_WORDS.sub("", point["verdict"]), id="verdict"),
        tag("p", "" if point["reason"] in point["verdict"] else point["reason"], id="reason"),
        tag("dl", *_cards(sheet, point["facts"]), id="facts", class_="cards"),
        tag("h3", "How sure"),
        tag("p", sheet["range_note"], class_="note") if sheet.get("range_note") else None,
        tag("ul", *_evidence(sheet, point["facts"]), id="evidence", class_="evidence"),
        tag("div", *boxes, class_="boxes"),
        id="answer",
        tabindex="-1",
    )  # fmt: skip


def _box(key: str, title: str, inside: Html, shown: bool) -> Html:
    return tag("div", tag("h3", title), inside, class_=f"box {key}", hidden=not shown)


def _evidence_tag(evidence: str) -> Html | None:
    return tag("span", evidence, class_="tag", data_evidence=evidence) if evidence else None


def _cards(sheet: Record, facts: Iterable[list[str]]) -> Iterator[Html]:
    """Yield a card per fact: `key, value, range, evidence, why`."""
    for key, value, span, evidence, why in facts:
        shown = (
            tag("strong", value),
            tag("span", span, class_="range"),
            _evidence_tag(evidence),
            tag("span", why, class_="why"),
        )
        yield tag("div", tag("dt", sheet["facts"].get(key, key)), tag("dd", *shown), class_="card")


def _evidence(sheet: Record, facts: Iterable[list[str]]) -> Iterator[Html]:
    groups: dict[str, list[str]] = {}
    for key, _, _, evidence, _ in facts:
        groups.setdefault(evidence, []).append(sheet["facts"].get(key, key))
    for evidence, labels in groups.items():
        grow = f"flex-grow: {len(labels)}"
        words = (_evidence_tag(evidence), ", ".join(labels))
        yield tag("li", *words, data_evidence=evidence, style=grow)


def _twin(key: str, one: Record) -> Html:
    words = tag("summary", "The numbers as a table")
    return tag("details", words, table(one), id=f"twin-{key}", class_="twin", open=True)


def _plot(key: str, name: str, moves: bool = True) -> Html:
    return tag(
        "div",
        class_="plot",
        id=f"plot-{key}",
        role="img",
        aria_label=name,
        data_name=name,
        data_plot=key if moves else None,
    )


def _figure(key: str, title: str, say: str, twin: Record, *plots: Html) -> Html:
    caption = tag("figcaption", tag("h3", title), tag("p", say) if say else None)
    return tag(
        "figure", caption, *plots, _twin(key, twin), id=f"fig-{key}", tabindex="-1", data_jump=True
    )


def _figures(sheet: Record, point: Record) -> Html:
    names = [figure for figure in (_memory(sheet, point), _step(sheet, point)) if figure]
    axes, tables = sheet["axes"], sheet["tables"]
    names += [
        _figure(
            "goodput",
            "Goodput against GPUs",
            f"{axes['goodput']['label']}, over {axes['gpus']['label']}; the line is where the slider stands.",
            tables["goodput"],
            _plot("goodput", "Goodput against the number of GPUs"),
        ),  # fmt: skip
        _figure(
            "pareto",
            "Time against cost",
            f"Across: {axes['days']['label']}. Up: {axes['usd']['label']}. A dot per number of GPUs; a hollow one leaves GPUs idle.",
            tables["pareto"],
            _plot("pareto", "Time against cost"),
        ),  # fmt: skip
    ]
    if sheet["supply"]:
        names.append(_supply(sheet))
    names.append(_fabric(point))
    if sheet["timeline"]:
        names.append(_timeline(sheet))
    return tag("section", tag("h2", "Why, and where else"), tag("div", *names, class_="grid"), id="figures")  # fmt: skip


def _memory(sheet: Record, point: Record) -> Html:
    memory, names = point["memory"], sheet["parts"]["memory"]
    body_rows = part_rows(names, memory["parts"]) if memory else []
    if memory:
        ends = (("In use", "used_text"), ("Usable", "usable_text"), ("Capacity", "capacity_text"))
        body_rows += [[label, memory[key], "", ""] for label, key in ends]
    twin = {"caption": "Memory of the fullest GPU", "head": ["Part", "Size", "Share", "What it is"], "rows": body_rows}  # fmt: skip
    say = "The fullest GPU. Dashed: what a plan may use; solid: what the GPU has."
    return _figure("memory", "Memory of a GPU", say, twin, _plot("memory", "Memory of a GPU"))


def _step(sheet: Record, point: Record) -> Html:
    parts = point["step"]["parts"] if point["step"] else []
    twin = {"caption": "Where the time of a step goes", "head": ["Part", "Time", "Share", "What it is"], "rows": part_rows(sheet["parts"]["step"], parts)}  # fmt: skip
    return _figure("step", "Time of a step", "Each part begins where the last one ends.", twin, _plot("step", "Time of a step"))  # fmt: skip


def part_rows(names: list[list[str]], parts: list[list[Any]]) -> list[list[str]]:
    """Return the rows of a bar's twin: label, text, share, meaning."""
    return [[names[i][1], text, share, names[i][2]] for i, _, text, share in parts]


def _supply(sheet: Record) -> Html:
    supply, axes = sheet["supply"], sheet["axes"]
    plots = [_plot("supply", supply["title"])]
    if "power" in axes:
        plots += [tag("h4", f"{axes['power']['label']}, over {axes['gpus']['label']}"), _plot("power", axes["power"]["label"])]  # fmt: skip
    say = f"{axes['delivered']['label']}, over {axes['year']['label']}. {supply['about']}. Source: {supply['source']}."
    return _figure("supply", supply["title"], say, supply["table"], *plots)


def _fabric(point: Record) -> Html:
    texts = ("tier", "size_text", "count_text", "rate_text", "axes", "note")
    twin = {
        "caption": "What carries which messages",
        "head": ["Tier", "GPUs in one", "How many", "Rate of a GPU", "Axes of the layout", "Note"],
        "rows": [[tier[key] for key in texts] for tier in point["fabric"]],
    }
    say = "From the GPU out: what each tier holds, and which axes of the layout stay inside it."
    return _figure("fabric", "Fabric", say, twin, _plot("fabric", "Tiers of the fabric"))


def _timeline(sheet: Record) -> Html:
    timeline = sheet["timeline"]
    kinds = (
        tag("li", tag("i", class_=f"swatch swatch{i % 10}", aria_hidden="true"), label)
        for i, (_, label) in enumerate(timeline["kinds"])
    )
    legend = tag("ul", *kinds, class_="legend")
    return _figure("timeline", timeline["title"], timeline["note"], timeline["table"], _plot("timeline", timeline["title"], moves=False), legend)  # fmt: skip


def _run(sheet: Record) -> Html:
    run = sheet["run"]
    plots = [
        tag(
            "figure",
            tag("figcaption", tag("h3", plot["title"]), tag("p", f"{plot['y']['label']}, over {plot['x']['label']}")),
            _plot(f"run-{plot['key']}", plot["title"], moves=False),
            _twin(f"run-{plot['key']}", plot["table"]),
        )
        for plot in run["plots"]
    ]  # fmt: skip
    return tag(
        "section",
        tag("h2", "What the run did"),
        tag("dl", *_cards(sheet, run["facts"]), class_="cards"),
        tag("div", *plots, class_="grid"),
        tag("h3", "Predicted against measured"),
        table(run["checks"]),
        id="run",
    )


def _rest(sheet: Record) -> list[Html | None]:
    compare = tag(
        "section",
        tag("h2", "Compare"),
        tag("p", sheet["compare_note"]) if sheet["compare_note"] else None,
        tag("div", id="pins"),
        tag("div", id="causes"),
        id="compare",
        hidden=True,
    )
    return [
        compare,
        tag("section", tag("h2", "Assumptions"), table(sheet["assumptions"]), id="assumptions"),
        tag(
            "section",
            tag("h2", "Not modelled"),
            tag("ul", items(sheet["not_modelled"])),
            id="missing",
        ),  # fmt: skip
        _launch(sheet["launch"]) if sheet["launch"] else None,
        _reproduce(sheet["reproduce"]),
    ]


def _launch(files: list[Record]) -> Html:
    boxes = [
        tag(
            "details",
            tag("summary", one["name"]),
            tag("pre", tag("code", one["text"], id=f"launch-{i}"), tabindex="0"),
            tag("button", "Copy", type="button", class_="quiet js-only", data_copy=f"launch-{i}"),
        )
        for i, one in enumerate(files)
    ]
    return tag("section", tag("h2", "Launch files"), *boxes, id="launch")


def _reproduce(pairs: list[list[str]]) -> Html:
    entries = [tag("div", tag("dt", label), tag("dd", tag("code", text))) for label, text in pairs]
    return tag("section", tag("h2", "Reproduce"), tag("dl", *entries, class_="pairs"), id="reproduce")  # fmt: skip


def _foot(sheet: Record) -> Html:
    words = f"crore {sheet['crore']} · {sheet['schema']} · {sheet['source']}"
    return tag("footer", tag("p", words))
