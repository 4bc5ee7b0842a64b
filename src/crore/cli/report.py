"""`crore report`: a plan, a mission or a run as one page that opens anywhere, offline."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, file_name
from crore.cli.complete import complete_target
from crore.errors import CroreError, InputError

if TYPE_CHECKING:
    from crore.io import Record
    from crore.plan import PlanRequest

Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN|PLAN|MISSION",
        help="A run's folder, a plan.json or sweep.json (- for stdin), or a mission.",
        autocompletion=complete_target,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", parser=file_name,
        help="The page (HTML); report.html by default.",
    ),
]  # fmt: skip
DEFAULT = Path("report.html")
Sweep = Annotated[
    Path | None,
    typer.Option(
        "--sweep", metavar="FILE", parser=file_name,
        help="Keep the 71 searches there, and take them up again.",
    ),
]  # fmt: skip
Alone = Annotated[
    bool, typer.Option("--alone", help="Only the plan's own number of GPUs: no slider.")
]
TRACE = "crore simulate plan.json --trace step.json, then ui.perfetto.dev: Open trace file"
STDIN = "-"
SHOWN_TARGETS = ("torchrun", "slurm", "kubernetes")
MOST_LINES = 40
"""Of a launch file on the page."""


def report(
    target: Target, output: Output = None, sweep: Sweep = None, alone: Alone = False,
    catalog: CatalogFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write one page to hand on, with a slider to ten million GPUs.

    crore report ten_million -o report.html

    report.md beside it says the same as text.
    """
    from crore.cli.document import writable
    from crore.cli.sites import keep, wanted
    from crore.io import write_text
    from crore.plan import read_mission
    from crore.report.html import page
    from crore.report.markdown import markdown

    output = output or DEFAULT
    beside = output.with_suffix(".md")
    if beside == output:
        raise InputError(f"-o {output.name[:60]} is where the text goes: name the page .html")
    for file in filter(None, (output, beside, sweep)):
        keep(file, target, catalog)
        writable(file)  # known before a minute of searches, not after
    if read_mission(target) is not None:
        check_limits(wanted(target, catalog))
    sheet, _ = sheet_and_sweep(target, catalog, sweep, alone=alone)
    text = page(sheet)
    write_text(output, text)
    write_text(beside, markdown(sheet))
    if as_json:
        import json

        typer.echo(json.dumps(sheet, ensure_ascii=False, allow_nan=False))
        return
    own = sheet["points"][sheet["own"]]
    typer.echo(f"{own['verdict']}\n{output}: {len(text.encode()) / 1e3:.0f} kB, opens offline in "
               f"any browser; {beside.name} is the same as text\nMade again and compared: "
               f"crore replay {output}")  # fmt: skip


def sheet_and_sweep(
    target: str, catalog: Path | None, sweep: Path | None, *, alone: bool
) -> "tuple[Record, Record]":
    """Return the record of a target's page and its sweep, made with progress on a terminal.

    Raises InputError for a target that is no run, plan, sweep or mission.
    """
    request, body, kind, lines = _found(target, catalog)
    if kind == "sweep":
        assert body is not None
        return _sheet(request, body, None, "mission"), body
    swept = _swept(request, body, sweep, alone=alone)
    made = _sheet(request, swept, body, kind)
    if lines:
        from crore.report.runs import run_section

        made["run"] = run_section(lines)
    return made, swept


def resheet(before: "Record", *, own: bool) -> "Record":
    """Return a page's record made again from its own request and, of a plan file, its layout."""
    from crore.plan.explain.again import case_of
    from crore.plan.record import whole_record
    from crore.plan.saved import request_from

    said = before["replay"]
    request = request_from(said["request"], "the page")
    body = said.get("plan")
    if body is not None:
        plan = case_of({**body, "request": said["request"], "alternatives": []}, "the page").plan
        body = {**whole_record(plan), "request": said["request"]}
    swept = _swept(request, body, None, alone=own or said["alone"])
    return _sheet(request, swept, body, before["kind"])


LAYOUT_KEYS = ("layout", "gpus", "gpus_available", "worlds", "islands")


def _sheet(
    request: "PlanRequest", swept: "Record", body: "Record | None", kind: str
) -> "dict[str, Any]":
    from crore import __version__
    from crore.cli.document import headed
    from crore.plan.record import request_record
    from crore.report.sheet import REPORT_VERSION, sheet_of

    made = sheet_of(swept, kind, _launched(swept, body))
    head = {"schema": f"crore.report/{REPORT_VERSION}", "crore": __version__, **headed({})}
    plan = None if body is None else {key: body[key] for key in LAYOUT_KEYS}
    again = {"request": request_record(request), "alone": len(swept["counts"]) == 1, "plan": plan}
    return {**head, **made, "reproduce": _reproduce(head), "replay": again}


def _found(
    target: str, catalog: Path | None
) -> "tuple[PlanRequest, Record | None, str, list[Record]]":
    """Return (request, the plan's record or a sweep, kind, a run's lines)."""
    from crore.cli.request import mission_hint
    from crore.cli.sites import wanted
    from crore.io import exists
    from crore.plan import read_mission
    from crore.plan.saved import request_from

    path = Path(target)
    if path.is_dir():
        return _run(path)
    if target == STDIN or (target.endswith(".json") and exists(path)):
        body = _document(target)
        name = "stdin" if target == STDIN else path.name[:40]
        request = request_from(body.get("request"), name)
        if str(body["schema"]).startswith("crore.sweep"):
            return request, body, "sweep", []
        return request, body, "plan", []
    if read_mission(target) is None:
        hint = mission_hint(target, "crore report ten_million, for example")
        raise InputError(
            f"{target[:60]} is no run, plan, sweep or mission: {hint} Of a model: crore plan … "
            "-o plan.json, then crore report plan.json"
        )
    return wanted(target, catalog), None, "mission", []


SWEPT = {"gpus": "gpus", "power_w": "power", "days": "days"}
"""Limits that a sweep over GPU counts leaves out -> what a mission calls them."""


def check_limits(request: "PlanRequest") -> None:
    """Tell on stderr which limits hold for a request's own GPUs alone.

    Raises Infeasible, with what would do, where they cannot be kept there either.
    """
    from crore.cli.plan import made

    left = [name for key, name in SWEPT.items() if getattr(request.limits, key)]
    if left:
        made(request)
        kept = f"limits.{', limits.'.join(left)}"
        typer.echo(
            f"{kept}: kept by the mission's own GPUs; other numbers of GPUs are shown without",
            err=True,
        )


def _document(target: str) -> "Record":
    """Return a plan's or a sweep's record, from a file or from stdin."""
    from crore.cli.planned import check_whole
    from crore.io import parse_object, read_json, read_text
    from crore.plan import SCHEMA_VERSION
    from crore.report.sweeping import read_sweep

    text = sys.stdin.read() if target == STDIN else read_text(Path(target))
    body = parse_object(text, "stdin" if target == STDIN else target)
    if str(body.get("schema", "")).startswith("crore.sweep/") and target != STDIN:
        return read_sweep(Path(target))[1]
    if target != STDIN:
        body = read_json(Path(target), "plan", SCHEMA_VERSION)
    elif body.get("schema") != f"crore.plan/{SCHEMA_VERSION}":
        raise InputError("stdin must hold a plan: crore plan … --json | crore report -")
    check_whole(body, target[-60:])
    return body


def _run(folder: Path) -> "tuple[PlanRequest, Record, str, list[Record]]":
    """Return a run's request, plan and records."""
    from crore.io import exists
    from crore.plan.saved import request_from
    from crore.train.folder import LOG, PLAN
    from crore.train.history import read_run

    name = str(folder)[-60:]
    for needed, what in ((LOG, "run"), (PLAN, "plan")):
        if not exists(folder / needed):
            raise InputError(f"{name} holds no {what} ({needed}): give a folder of crore train")
    body = _document(str(folder / PLAN))
    run = read_run(folder / LOG)
    lines = [{"kind": it.kind, **asdict(it)} for it in run.records]
    return request_from(body["request"], name), body, "run", lines


def _swept(
    request: "PlanRequest", body: "Record | None", saved: Path | None, *, alone: bool
) -> "Record":
    """Return the sweep of a request; of a machine without counts, or alone, the plan itself."""
    from crore.catalog import load_catalog
    from crore.cli.document import headed
    from crore.cli.plan import made
    from crore.cli.progress import steps
    from crore.plan import plan_record
    from crore.plan.sweep import one_machine
    from crore.report.sweeping import alone as only
    from crore.report.sweeping import sweep_record, with_plan

    if alone or one_machine(request, load_catalog(request.catalog_file)):
        return only(body or plan_record(made(request)))
    if body is not None:
        request = replace(request, gpus=body["gpus_available"], cluster="", gpu=body["gpu"])
    with steps("71 searches") as watch:
        swept = sweep_record(request, saved, watch, headed({}))
    return swept if body is None else with_plan(swept, body)


def _launched(swept: "Record", body: "Record | None") -> "Sequence[Record]":
    """Return the first file of each target that can run the plan, cut to what a page shows."""
    from crore.catalog import load_catalog
    from crore.cli.document import dumped
    from crore.launch import export, launch_of
    from crore.plan import SCHEMA_VERSION
    from crore.plan.saved import request_from

    own = body or next(
        (it["plan"] for it in swept["at"] if it["gpus"] == swept["request"]["gpus"]), None
    )
    if own is None:
        return []
    whole = {"alternatives": [], **own, "request": {**swept["request"]}}
    request = request_from(whole["request"], "the plan")
    text = dumped("plan", SCHEMA_VERSION, whole) + "\n"
    catalog, found = load_catalog(request.catalog_file), []
    for target in SHOWN_TARGETS:
        try:
            made = export(target, launch_of(whole, catalog, node_gpus=0), text)
        except CroreError:
            continue  # this target would train something else
        file = next(it for it in made.files if it.name == made.world_file)
        shown = file.text.splitlines()
        more = [f"… {len(shown) - MOST_LINES} more lines"] if len(shown) > MOST_LINES else []
        found.append({
            "name": f"{target}: {file.name}", "text": "\n".join([*shown[:MOST_LINES], *more]),
            "command": f"crore launch plan.json --to {target} -o job",
        })  # fmt: skip
    return found


def _reproduce(head: "Record") -> list[list[str]]:
    from crore import __version__

    return [
        ["command", head["command"]], ["crore", __version__],
        ["constants", head["constants_sha256"][:16]],
        ["one step as a trace", TRACE], ["compare with today", "crore replay report.html"],
    ]  # fmt: skip
