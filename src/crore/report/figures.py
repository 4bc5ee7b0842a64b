"""The pictures' places, each with the same numbers as a table beside it.

The page's script draws into them (`page/plots.js`); without scripts the tables stand alone.
"""

from __future__ import annotations

from typing import Any, Final

from crore.io import Record
from crore.report.answered import cards
from crore.report.markup import Html, join, table, tag

COLOURS: Final = 10
LEFT_OUT: Final = "not drawn"
"""In the name of a kind of bar that stands for others."""
PARETO: Final = (
    "A dot per number of GPUs, hollow where some stay idle; crossed bars: the ranges of the count "
    "that is shown."
)
GOODPUT: Final = "The line across stands at the count that is shown."
MEMORY: Final = "The fullest GPU. Dashed: what a plan may use; solid: what the GPU has."
STEP: Final = "Each part follows the last; at the right its whole length."
READY: Final = "Dashed: what is asked for; the dot and its bar: when it is there."
FABRIC: Final = "From the GPU out: what each tier holds, and which axes of the layout it carries."


def figures(sheet: Record, point: Record) -> Html:
    """Return the pictures' places; supply and the step's timeline where the sheet has them."""
    tables, lines = sheet["tables"], sheet["lines"]
    beyond = _sentence(lines["beyond_text"])
    goodput = _joined(GOODPUT, _sentence(lines["band"]), beyond)
    # Dots have room for a shape, not for a hatch.
    pareto = _joined(PARETO, beyond.replace("Hatched", "Diamonds"))
    shown = [
        _figure("memory", "Memory of a GPU", MEMORY, memory_twin(sheet, point)),
        _figure("step", "Time of a step", STEP, _step(sheet, point)),
        _figure("goodput", "Goodput against GPUs", goodput, tables["goodput"]),
        _figure("pareto", "Time against cost", pareto, tables["pareto"]),
        _supply(sheet) if sheet["supply"] else None,
        _figure("fabric", "Fabric", FABRIC, _fabric(point)),
        _timeline(sheet["timeline"]) if sheet["timeline"] else None,
    ]
    grid = tag("div", *shown, class_="grid")
    return tag("section", tag("h2", "Why, and where else"), grid, id="figures")


def _figure(key: str, title: str, say: str, twin: Record, inside: Html | None = None) -> Html:
    """Return a figure that a digit key jumps to."""
    return tag(
        "figure",
        tag("figcaption", tag("h3", title), tag("p", say)),
        plot(key, title) if inside is None else inside,
        _twin(key, twin),
        id=f"fig-{key}",
        tabindex="-1",
        data_jump=True,
    )


def plot(key: str, name: str, moves: bool = True) -> Html:
    """Return the place of a picture; `moves` where the slider moves it."""
    return tag(
        "div",
        class_="plot",
        id=f"plot-{key}",
        role="img",
        aria_label=name,
        data_name=name,
        data_plot=key if moves else None,
    )


def _twin(key: str, one: Record) -> Html:
    """Return a table that stands open without scripts."""
    words = tag("summary", "The numbers as a table")
    return tag("details", words, table(one), id=f"twin-{key}", class_="twin", open=True)


def memory_twin(sheet: Record, point: Record) -> Record:
    """Return what fills the GPU as a table, with its ends."""
    memory = point["memory"]
    rows: list[list[str]] = []
    if memory:
        ends = (("In use", "used_text"), ("Usable", "usable_text"), ("Capacity", "capacity_text"))
        rows = part_rows(sheet["parts"]["memory"], memory["parts"])
        rows += [[label, memory[key], "", ""] for label, key in ends]
    head = ["Part", "Size", "Share", "What it is"]
    return {"caption": "Memory of the fullest GPU", "head": head, "rows": rows}


def _step(sheet: Record, point: Record) -> Record:
    step, rows = point["step"], []
    if step:
        rows = part_rows(sheet["parts"]["step"], step["parts"])
        rows.append(["The step", step["text"], "", ""])
    head = ["Part", "Time", "Share", "What it is"]
    return {"caption": "Where the time of a step goes", "head": head, "rows": rows}


def part_rows(names: list[list[str]], parts: list[list[Any]]) -> list[list[str]]:
    """Return the rows of a bar's table: label, text, share, meaning."""
    return [[names[i][1], text, share, names[i][2]] for i, _, text, share in parts]


def _fabric(point: Record) -> Record:
    texts = ("tier", "size_text", "count_text", "rate_text", "axes", "note")
    head = ["Tier", "GPUs in one", "How many", "Rate of a GPU", "Axes of the layout", "Note"]
    rows = [[tier[key] for key in texts] for tier in point["fabric"]]
    return {"caption": "What carries which messages", "head": head, "rows": rows}


def _supply(sheet: Record) -> Html:
    """Return the supply curve, and under it the power that each count draws."""
    supply = sheet["supply"]
    say = _joined(READY, f"{supply['about']}. {supply['source']}.", _power(sheet["lines"]))
    power = sheet["axes"]["power"]["label"]
    plots = join([plot("supply", supply["title"]), plot("power", power)])
    return _figure("supply", supply["title"], say, supply["table"], plots)


def _power(lines: Record) -> str:
    """Return what the picture of power has beside its line."""
    peak = "Dashes in the power: its peak, while all GPUs compute." if lines["peaks"] else ""
    return _joined(peak, _sentence(lines["beyond_text"]))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _joined(*words: str) -> str:
    return " ".join(filter(None, words))


def _timeline(timeline: Record) -> Html:
    kinds = (
        tag("li", tag("i", class_=f"swatch {_swatch(i, kind)}", aria_hidden="true"), label)
        for i, (kind, label) in enumerate(timeline["kinds"])
    )
    drawn = plot("timeline", timeline["title"], moves=False)
    inside = join([drawn, tag("ul", *kinds, class_="legend")])
    return _figure("timeline", timeline["title"], timeline["note"], timeline["table"], inside)


def _swatch(i: int, kind: str) -> str:
    """Return the look of a kind of bar; what is left out steps back."""
    return "left-out" if LEFT_OUT in kind else f"swatch{i % COLOURS}"


def run_section(sheet: Record) -> Html:
    """Return what a training run left: facts, curves, predicted against measured, events."""
    run = sheet["run"]
    events = [tag("h3", "Out of the ordinary"), table(run["events"])]
    return tag(
        "section",
        tag("h2", "What the run did"),
        tag("dl", *cards(sheet, run["facts"]), class_="cards"),
        tag("div", *(_curve(one) for one in run["plots"]), class_="grid"),
        tag("h3", "Predicted against measured"),
        table(run["checks"]),
        *(events if run["events"]["rows"] else []),
        id="run",
    )


def _curve(one: Record) -> Html:
    key = f"run-{one['key']}"
    caption = tag("figcaption", tag("h3", one["title"]))
    return tag("figure", caption, plot(key, one["title"], moves=False), _twin(key, one["table"]))
