"""`crore plan`: a model or mission, and the machines, become a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, file_name
from crore.cli.complete import complete_target
from crore.cli.picture import Plot, draw, drawable
from crore.cli.request import (
    Basis,
    ClusterName,
    FabricName,
    Fix,
    GlobalBatch,
    Gpu,
    Gpus,
    Limit,
    Objective,
    Precision,
    SeqLen,
    StackName,
    Tokens,
    Top,
    laid_over,
    request_of,
)
from crore.errors import InputError, UnknownName

if TYPE_CHECKING:
    from crore.plan import Answer, PlanRequest

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", parser=file_name, help="Write the plan (JSON)."),
]
Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL|MISSION]",
        help="A model, a mission, or a mission file.",
        show_default=False,
        autocompletion=complete_target,
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Instead of a model: the address of a scenario."),
]
INTERRUPTED = 130


def plan(
    target: Target = None,
    gpu: Gpu = None,
    gpus: Gpus = None,
    cluster: ClusterName = None,
    fabric: FabricName = None,
    tokens: Tokens = None,
    seq_len: SeqLen = None,
    global_batch: GlobalBatch = None,
    precision: Precision = None,
    stack: StackName = None,
    objective: Objective = None,
    basis: Basis = None,
    top: Top = None,
    fix: Fix = None,
    limit: Limit = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    output: Output = None,
    plot: Plot = None,
    url: Address = None,
) -> None:
    """Find the fastest layout that fits: its time, memory, cost.

    crore plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 15T

    Nothing fits: exit code 1 and the nearest miss.
    """
    given: dict[str, Any] = {
        "gpu": gpu, "gpus": gpus, "cluster": cluster, "fabric": fabric, "tokens": tokens,
        "seq_len": seq_len, "global_batch": global_batch, "precision": precision, "stack": stack,
        "objective": objective, "basis": basis, "top": top, "fix": fix, "limit": limit,
        "catalog": catalog,
    }  # fmt: skip
    from crore.cli.document import dumped, written
    from crore.cli.screen import screen
    from crore.io import keep_inputs

    request = _asked(target, url, given)
    models = [Path(target or ""), Path(request.model), Path(request.model) / "config.json"]
    inputs = [*models, *filter(None, [catalog])]
    if output is not None:
        keep_inputs(output, inputs)
    drawable(plot, inputs, output)
    answer = made(request)
    from crore.plan import SCHEMA_VERSION, plan_record, render
    from crore.plan.text.pictures import answer_svg

    if output is not None:
        written(output, "plan", SCHEMA_VERSION, plan_record(answer))
    draw(plot, lambda: answer_svg(answer))
    record = dumped("plan", SCHEMA_VERSION, plan_record(answer)) if as_json else None
    typer.echo(record or render(answer, screen()))
    if answer.interrupted:
        raise typer.Exit(INTERRUPTED)


def _asked(target: str | None, url: str | None, given: dict[str, Any]) -> "PlanRequest":
    """Return the request of a target or of an address, flags laid over it.

    Raises InputError for both, for neither, and for an address that holds no scenario.
    """
    if url is None:
        if target is None:
            raise InputError(
                "crore plan needs MODEL|MISSION, for example crore plan ten_million, or --url"
            )
        return request_of(target, given)
    if target is not None:
        raise InputError(f"--url names the model: leave out {target[:40]}, or the address")
    from dataclasses import fields

    from crore.report.scenario import read, request_from

    asked = request_from(read(url))
    keys = {f.name: getattr(asked, f.name) for f in fields(asked)}
    return laid_over(keys, asked.model, given)


def made(request: "PlanRequest") -> "Answer":
    """Plan, with progress on a terminal; a mistyped mission is looked for among the models too."""
    from crore.cli.progress import watching
    from crore.plan import make_plan, mission_names

    try:
        with watching() as watch:
            return make_plan(request, watch)
    except UnknownName as error:
        if error.kind != "model":
            raise
        # A mistyped mission arrives here as a model: offer both.
        valid = [*mission_names(), *error.valid]
        raise UnknownName("model or mission", error.name, valid, error.listing) from error
