"""What a reader moves: scenario, slider, pins, presets; shown where scripts run."""

from __future__ import annotations

import math
from typing import Final

from crore.io import Record
from crore.report.markup import Html, join, tag

SHOWN: Final = ("model", "gpu", "tokens")
"""Keys of the scenario that can be asked anew where there is a server."""
STEPS_A_DECADE: Final = 10
"""Of the slider."""
KEYS: Final = (
    ("← →", "fewer, more GPUs: a tenth of a decade"),
    ("PgUp, PgDn", "a decade more, less (on the slider)"),
    ("Home, End", "the least, the most (on the slider)"),
    ("1 to 7", "jump to a picture"),
    ("c", "pin this number of GPUs"),
    ("/", "type"),
    ("?", "this box"),
)
MARKS: Final = (("fits", "fits"), ("idle", "GPUs idle"), ("short", "does not fit"))
ELSEWHERE: Final = (
    "The link asks for another scenario than this file holds; crore serve --planner answers it."
)
RULE: Final = "GPUs must be a whole number, one or more, such as 16,384, 16k or 1M."
DEAD: Final = (
    "The planner does not answer any more: is crore serve --planner running? What this page "
    "holds still works."
)


def controls(sheet: Record, point: Record) -> Html:
    """Return the form above the answer, hidden where no script moves it."""
    status = [
        tag("p", id="status", role="status"),
        tag("p", id="refused", role="alert", hidden=True),
        tag("p", DEAD, id="dead", role="alert", hidden=True),
    ]
    alone = len(sheet["positions"]) == 1
    return tag(
        "form",
        tag("div", _scenario(sheet), _buttons(), _presets(sheet), class_="line"),
        tag("div", _slider(sheet, point), *status, id="bar", hidden=alone and not sheet["live"]),
        id="controls",
        class_="js-only",
        aria_label="Scenario",
        data_elsewhere=ELSEWHERE,
        autocomplete="off",
        novalidate=True,
    )


def _scenario(sheet: Record) -> Html:
    scenario, live = sheet["scenario"], sheet["live"]
    if not live:
        words = " · ".join(scenario[key] for key in SHOWN if scenario.get(key))
        return tag("p", words, class_="scenario")
    boxes = [
        _listed("model", "Model", scenario.get("model", ""), live["models"]),
        _listed("gpu", "GPU", scenario.get("gpu", ""), live["gpus"]),
        _field("tokens", "Tokens", tag("input", id="tokens", value=scenario.get("tokens", ""))),
    ]
    return tag("div", *boxes, class_="scenario")


def _listed(key: str, label: str, value: str, names: list[str]) -> Html:
    box = tag("input", id=key, value=value, list=f"{key}-names", spellcheck="false")
    known = tag("datalist", *(tag("option", value=name) for name in names), id=f"{key}-names")
    return join([_field(key, label, box), known])


def _field(key: str, label: str, box: Html) -> Html:
    return tag("label", tag("span", label), box, for_=key)


def _buttons() -> Html:
    return tag(
        "div",
        tag("button", "Pin", type="button", id="pin", title="Compare (c)"),
        tag("button", "Link", type="button", id="link", title="Copy the address"),
        tag("button", "Light or dark", type="button", id="theme"),
        tag("button", "Keys", type="button", id="keys", title="Keyboard (?)"),
        class_="buttons",
    )


def _slider(sheet: Record, point: Record) -> Html:
    last = len(sheet["positions"]) - 1
    slider = tag(
        "input",
        type="range",
        id="slider",
        min="0",
        max=str(last),
        step="1",
        value=str(sheet["positions"].index(sheet["own"])),
        aria_label="GPUs",
        aria_valuetext=point["aria"],
        disabled=last == 0,
    )
    box = tag("input", id="gpus", value=point["gpus_text"], data_rule=RULE)
    strip = tag("div", id="strip", aria_hidden="true")
    key = (tag("span", words, data_state=state) for state, words in MARKS)
    says = tag("div", tag("p", id="short"), tag("p", *key, class_="key"), class_="says")
    track = tag("div", strip, slider, _ticks(sheet, last), class_="track")
    return tag("div", _field("gpus", "GPUs", box), track, says, class_="line")


def _ticks(sheet: Record, last: int) -> Html:
    """Return the counts under the slider, where its thumb stands at them."""
    decades = last / STEPS_A_DECADE
    places = [
        (math.log10(count) / decades, text)
        for count, text in sheet["axes"]["gpus"]["ticks"]
        if decades and math.log10(count) <= decades
    ]
    spans = (tag("span", text, style=f"left: {place:.2%}") for place, text in places)
    return tag("div", *spans, class_="ticks", aria_hidden="true")


def _presets(sheet: Record) -> Html | None:
    if not sheet["presets"]:
        return None
    links = [tag("a", label, href=f"#{hash_}") for label, hash_ in sheet["presets"]]
    return tag("p", "Try", *links, class_="presets")


def help_box() -> Html:
    """Return the list of keys, opened by `?`."""
    pairs = [tag("div", tag("dt", key), tag("dd", words)) for key, words in KEYS]
    shut = tag("form", tag("button", "Close"), method="dialog")
    title = tag("h2", "Keyboard", id="help-title")
    keys = tag("dl", *pairs, class_="pairs")
    return tag("dialog", title, keys, shut, id="help", aria_labelledby="help-title")
