"""`crore replay`: a page made again from what it says of itself, and what is different."""

from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import AsJson, file_name
from crore.errors import InputError

Page = Annotated[
    Path, typer.Argument(metavar="REPORT", parser=file_name, help="A page of crore report.")
]
Own = Annotated[bool, typer.Option("--own", help="Only its own number of GPUs: one search.")]
REPLAY_VERSION = 1
MOST = 20
"""Differences that are listed."""


def replay(page: Page, own: Own = False, as_json: AsJson = False) -> None:
    """Make a page again and say what differs.

    crore replay report.html

    Nothing differs: exit code 0; something does: 1.
    """
    from crore.cli.document import constants_sha256, dumped
    from crore.report.replay import differences, read_report

    before = read_report(page)
    again = before.get("replay")
    if not isinstance(again, dict) or "request" not in again:
        raise InputError(f"{page.name[:60]} does not say how it was made: make it again")
    after = _again(before, own=own)
    found = differences(*((_only(before), _only(after)) if own else (before, after)))
    same_constants = before.get("constants_sha256") == constants_sha256()
    if as_json:
        record = {
            "page": page.name, "written_by": str(before.get("crore")),
            "same_constants": same_constants,
            "differences": [dict(zip(("place", "before", "after"), it, strict=True))
                            for it in found],
        }  # fmt: skip
        typer.echo(dumped("replay", REPLAY_VERSION, record))
    else:
        typer.echo("\n".join(_lines(page, before, found, same=same_constants)))
    if found:
        raise typer.Exit(1)


def _again(before: dict[str, object], *, own: bool) -> dict[str, object]:
    from crore.cli.report import resheet

    return resheet(before, own=own)


def _only(sheet: dict[str, object]) -> dict[str, object]:
    """Return what of a page is of its own count alone."""
    from crore.report.markdown import point_of

    own = point_of(sheet, int(str(sheet["own"])))
    kept = ("title", "note", "source", "summary", "scenario", "timeline", "assumptions",
            "not_modelled")  # fmt: skip
    left = ("news", "change", "like")
    return {key: sheet[key] for key in kept} | {
        "point": {key: value for key, value in own.items() if key not in left}
    }


def _lines(
    page: Path, before: dict[str, object], found: list[tuple[str, str, str]], *, same: bool
) -> list[str]:
    written = f"written by crore {before.get('crore')}"
    constants = "the same constants" if same else "other constants"
    if not found:
        return [f"{page.name}: nothing differs ({written}, {constants})"]
    shown = [f"  {place}: {old} -> {new}" for place, old, new in found[:MOST]]
    more = [f"  and {len(found) - MOST} more (--json lists all)"] if len(found) > MOST else []
    many = f"{len(found)} value{'s' * (len(found) > 1)}"
    return [f"{page.name}: {many} differ ({written}, {constants})", *shown, *more]
