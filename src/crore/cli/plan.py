"""`crore plan`: a model or mission, and the machines, become a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, file_name
from crore.cli.request import (
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
    Target,
    Tokens,
    Top,
    request_of,
)
from crore.errors import UnknownName

if TYPE_CHECKING:
    from crore.plan import Answer, PlanRequest

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", parser=file_name, help="Write the plan (JSON)."),
]
INTERRUPTED = 130


def plan(
    target: Target,
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
    top: Top = None,
    fix: Fix = None,
    limit: Limit = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Find the fastest layout that fits: its time, memory, cost.

    crore plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 15T

    Nothing fits: exit code 1 and the nearest miss.
    """
    given: dict[str, Any] = {
        "gpu": gpu, "gpus": gpus, "cluster": cluster, "fabric": fabric, "tokens": tokens,
        "seq_len": seq_len, "global_batch": global_batch, "precision": precision, "stack": stack,
        "objective": objective, "top": top, "fix": fix, "limit": limit, "catalog": catalog,
    }  # fmt: skip
    from crore.cli.document import dumped, written
    from crore.io import keep_inputs

    request = request_of(target, given)
    if output is not None:
        models = [Path(target), Path(request.model), Path(request.model) / "config.json"]
        keep_inputs(output, [*models, *filter(None, [catalog])])
    answer = made(request)
    from crore.plan import SCHEMA_VERSION, plan_record, render

    if output is not None:
        written(output, "plan", SCHEMA_VERSION, plan_record(answer))
    asked = dumped("plan", SCHEMA_VERSION, plan_record(answer)) if as_json else render(answer)
    typer.echo(asked)
    if answer.interrupted:
        raise typer.Exit(INTERRUPTED)


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
