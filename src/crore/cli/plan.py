"""`crore plan`: a model or mission, and the machines, become a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import (
    AsJson,
    CatalogFile,
    file_name,
    optional_count,
    optional_word,
    parse_fix,
)
from crore.cli.complete import complete_cluster, complete_fabric, complete_gpu, complete_target
from crore.errors import InputError, UnknownName

if TYPE_CHECKING:
    from crore.plan import PlanRequest


Target = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|MISSION",
        help="A model, a mission, or a mission file.",
        autocompletion=complete_target,
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        metavar="G", help="GPU, as `crore catalog gpus` names it.", autocompletion=complete_gpu
    ),
]
Gpus = Annotated[str | None, typer.Option(metavar="N", help="How many: 8, 16k, 10M.")]
ClusterName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Instead of GPU and count: crore catalog clusters.",
        autocompletion=complete_cluster,
    ),
]
FabricName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Network: crore catalog fabrics.", autocompletion=complete_fabric
    ),
]
Tokens = Annotated[str | None, typer.Option(metavar="D", help="Tokens to train on: 15T.")]
SeqLen = Annotated[str | None, typer.Option(metavar="S", help="Tokens per sequence.")]
GlobalBatch = Annotated[str | None, typer.Option(metavar="B", help="Sequences per optimizer step.")]
Precision = Annotated[
    str | None, typer.Option(metavar="P", help="Format of the linear layers: bf16, fp8, …")
]
Fix = Annotated[
    str | None, typer.Option(metavar="K=V,…", help="Pin the layout: tp=8,pp=16,recompute=full.")
]
StackName = Annotated[str | None, typer.Option(metavar="NAME", help="Training software to assume.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", parser=file_name, help="Write the plan (JSON)."),
]


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
    fix: Fix = None,
    stack: StackName = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Find the fastest layout that fits; see its time and memory.

    crore plan llama-3.1-405b --gpu h100-sxm --gpus 16384 --tokens 15T

    Nothing fits: exit code 1 and the nearest miss.
    """
    flags: dict[str, Any] = {
        "gpu": gpu,
        "gpus": optional_count(gpus, "--gpus"),
        "cluster": cluster,
        "fabric": fabric,
        "tokens": optional_count(tokens, "--tokens"),
        "seq_len": optional_count(seq_len, "--seq-len"),
        "global_batch": optional_count(global_batch, "--global-batch"),
        "precision": optional_word(precision),
        "stack": optional_word(stack),
        "fix": parse_fix(fix) or None,
        "catalog_file": catalog,
    }
    from crore.io import keep_inputs

    request = _request(target, flags)
    if output is not None:
        models = [Path(target), Path(request.model), Path(request.model) / "config.json"]
        keep_inputs(output, [*models, *filter(None, [catalog])])
    _answer(request, as_json=as_json, output=output)


def _request(target: str, flags: dict[str, Any]) -> "PlanRequest":
    """Lay the flags that were given over the mission, if `target` names one."""
    from crore.plan import PlanRequest, read_mission

    fields = read_mission(target) or {"model": target}
    given = {key: value for key, value in flags.items() if value is not None}
    if "global_batch" in given:
        fields.pop("global_batch_tokens", None)
    fields |= given
    missing = [f"--{key}" for key in ("gpu", "gpus") if not {key, "cluster"} & fields.keys()]
    if missing:
        raise InputError(
            f"crore plan {target[:60]} needs {' and '.join(missing)}, "
            f"for example --gpu h100-sxm --gpus 16384 (all: crore catalog gpus)"
        )
    return PlanRequest(**fields)


def _answer(request: "PlanRequest", *, as_json: bool, output: Path | None) -> None:
    """Plan, then print and write."""
    from crore.io import dump_json, write_json
    from crore.plan import SCHEMA_VERSION, make_plan, mission_names, plan_record, render

    try:
        made = make_plan(request)
    except UnknownName as error:
        if error.kind != "model":
            raise
        # A mistyped mission arrives here as a model: offer both.
        valid = [*mission_names(), *error.valid]
        raise UnknownName("model or mission", error.name, valid, error.listing) from error
    if output is not None:
        write_json(output, "plan", SCHEMA_VERSION, plan_record(made))
    typer.echo(dump_json("plan", SCHEMA_VERSION, plan_record(made)) if as_json else render(made))
