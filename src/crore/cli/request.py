"""Flags that ask for a plan, shared by every command that makes one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import optional_count, optional_word, parse_fix, parse_limits
from crore.cli.complete import complete_cluster, complete_fabric, complete_gpu, complete_target
from crore.errors import InputError, nearest

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
        metavar="NAME",
        help="Network, chosen if left out: crore catalog fabrics.",
        autocompletion=complete_fabric,
    ),
]
Tokens = Annotated[str | None, typer.Option(metavar="D", help="Tokens to train on: 15T.")]
SeqLen = Annotated[str | None, typer.Option(metavar="S", help="Tokens per sequence.")]
GlobalBatch = Annotated[str | None, typer.Option(metavar="B", help="Sequences per optimizer step.")]
Precision = Annotated[
    str | None, typer.Option(metavar="P", help="Format of the linear layers: bf16, fp8, …")
]
StackName = Annotated[str | None, typer.Option(metavar="NAME", help="Training software to assume.")]
Objective = Annotated[
    str | None, typer.Option(metavar="O", help="fastest (default), cheapest or pareto.")
]
Basis = Annotated[
    str | None, typer.Option(metavar="B", help="Dollars of machines rented, or owned.")
]
Top = Annotated[str | None, typer.Option(metavar="K", help="So many plans that really differ.")]
Fix = Annotated[
    str | None, typer.Option(metavar="K=V,…", help="Pin the layout: tp=8,pp=16,recompute=full.")
]
Limit = Annotated[
    str | None,
    typer.Option(metavar="K=V,…", help="Not more than: power=30 MW,days=90,memory=80 GB."),
]


def mission_hint(target: str, otherwise: str) -> str:
    """Return the mission that a mistyped target was meant for, or what to say where none is."""
    from crore.plan import mission_names

    near = nearest(target, mission_names(), count=1)
    return f"did you mean {near[0]}?" if near else otherwise


def request_of(target: str, given: dict[str, Any]) -> "PlanRequest":
    """Return the request of a target with flags laid over its mission, if it names one.

    `given` holds flags as typed, None where left out. Raises InputError for a value out of range
    and when a GPU or a count is missing.
    """
    from crore.io import exists
    from crore.plan import read_mission, read_saved

    mission = read_mission(target)
    is_file = mission is None and target.endswith(".json") and exists(Path(target))
    if is_file and read_saved(Path(target)) is not None:
        name = target[-60:]
        raise InputError(f"{name} is a plan already: crore explain {name}, or crore compare it")
    return laid_over(mission or {"model": target}, target, given)


def laid_over(fields: dict[str, Any], target: str, given: dict[str, Any]) -> "PlanRequest":
    """Return the request of `fields` with flags, as typed, laid over them; errors name `target`."""
    from dataclasses import replace

    from crore.plan import Limits, PlanRequest

    fields = dict(fields)
    flags = {key: value for key, value in _values(given).items() if value is not None}
    if "global_batch" in flags:
        fields.pop("global_batch_tokens", None)
    if limits := parse_limits(given.get("limit")):
        flags["limits"] = replace(fields.get("limits", Limits()), **limits)
    if "fix" in flags:
        flags["fix"] = {**fields.get("fix", {}), **flags["fix"]}
    fields |= flags
    known = {key for key, value in fields.items() if value}
    missing = [f"--{key}" for key in ("gpu", "gpus") if not {key, "cluster"} & known]
    if missing:
        raise InputError(
            f"{target[:60]} needs {' and '.join(missing)}, "
            f"for example --gpu h100-sxm --gpus 16384 (all: crore catalog gpus)"
        )
    return PlanRequest(**fields)


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """Return flags as values: counts, words, pins."""
    counts = {"gpus": "--gpus", "tokens": "--tokens", "seq_len": "--seq-len",
              "global_batch": "--global-batch", "top": "--top"}  # fmt: skip
    values = {key: optional_count(given.get(key), flag) for key, flag in counts.items()}
    words = {
        key: optional_word(given.get(key)) for key in ("precision", "stack", "objective", "basis")
    }
    names = {key: given.get(key) for key in ("gpu", "cluster", "fabric")}
    file: Path | None = given.get("catalog")
    return {**values, **words, **names, "fix": parse_fix(given.get("fix")) or None,
            "catalog_file": file}  # fmt: skip
