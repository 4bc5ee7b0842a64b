"""The page's answer as Markdown: what one pastes into an issue or a mail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from crore.io import Record


def markdown(sheet: Record) -> str:
    """Return the mission's own point, its assumptions and how to make it again as Markdown."""
    return "\n".join(_lines(sheet)) + "\n"


def _lines(sheet: Record) -> Iterator[str]:
    own = point_of(sheet, sheet["own"])
    yield f"# {_plain(sheet['title'])}"
    yield ""
    yield f"**{_plain(own['verdict'])}**"
    yield ""
    yield " ".join(map(_plain, sheet["summary"]))
    facts = [[sheet["facts"][key], *rest] for key, *rest in own["facts"]]
    if facts:
        yield from _table("The answer", ["what", "value", "80 %", "evidence", "note"], facts)
    for name, part in (("memory", "Memory of the worst GPU"), ("step", "One step")):
        held = own[name]
        if held and held["parts"]:
            rows = [[sheet["parts"][name][k][1], *texts] for k, _, *texts in held["parts"]]
            yield from _table(part, ["part", "size", "share"], rows)
    if sheet["run"]:
        yield from _table(
            "The run", ["what", "value", "80 %", "evidence", "note"], sheet["run"]["facts"]
        )
        yield from _as_table(sheet["run"]["checks"])
    for key in ("pareto", "goodput"):
        if len(sheet["points"]) > 1:
            yield from _as_table(sheet["tables"][key])
    if sheet["assumptions"]:
        yield from _as_table(sheet["assumptions"])
    yield from ("", "## Not modelled", "")
    yield from (f"- {_plain(line)}" for line in sheet["not_modelled"])
    yield from _table("Make it again", ["what", "value"], sheet["reproduce"])


def point_of(sheet: Record, index: int) -> Record:
    """Return a point whole: one that is like another has that one's plan."""
    point: Record = sheet["points"][index]
    return {**sheet["points"][point["like"]], **point} if "like" in point else point


def _as_table(it: Record) -> Iterator[str]:
    if it["rows"]:
        yield from _table(it["caption"], it["head"], it["rows"])


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from ("", f"## {title[0].upper()}{title[1:]}", "")
    yield _row(head)
    yield _row(["---"] * len(head))
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """Return text that Markdown and HTML read as it stands."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
