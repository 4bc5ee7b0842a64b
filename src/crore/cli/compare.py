"""`crore compare`: plans side by side, with the cause of each difference."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, key_values
from crore.cli.complete import complete_target
from crore.cli.picture import Plot, draw, drawable
from crore.cli.plan import INTERRUPTED, made
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
    laid_over,
    request_of,
)
from crore.errors import Infeasible, InputError
from crore.units import LIMIT_KEYS

if TYPE_CHECKING:
    from crore.plan import Answer, PlanRequest
    from crore.plan.saved import Saved

FLAGS = ("gpu", "gpus", "cluster", "fabric", "tokens", "seq_len", "global_batch", "precision",
         "stack", "objective", "basis")  # fmt: skip
"""Keys of a target that stand for the flag of that name."""
LIMITS = tuple(key for key in LIMIT_KEYS if key not in (*FLAGS, "global_batch_tokens"))
"""Keys of a target that stand for a limit; a mission's global_batch_tokens is no limit."""
FEWEST, MOST = 2, 6
SHOWN = 40
"""Characters of a target that messages repeat."""
SAME_DAYS = 1e-3
"""A plan file whose days come out this near again is not worth a word."""

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        help="Models, missions, mission files or plan.json files; TARGET:key=value,… changes one.",
        autocompletion=complete_target,
    ),
]


def compare(
    targets: Targets,
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
    fix: Fix = None,
    limit: Limit = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    plot: Plot = None,
) -> None:
    """Plan two to six targets; see why one is slower or dearer.

    crore compare llama3_405b llama3_405b:gpus=8k,gpu=h200-sxm

    Flags go for all targets; a key after a target's colon goes before them for that target alone:
    the name of a flag (gpu, seq_len, …), of --fix (tp, zero, …) or of --limit (days, power, …).
    A plan.json is planned again from the request in it.

    A target that does not fit: exit code 1 and its nearest miss.
    """
    given: dict[str, Any] = {
        "gpu": gpu, "gpus": gpus, "cluster": cluster, "fabric": fabric, "tokens": tokens,
        "seq_len": seq_len, "global_batch": global_batch, "precision": precision, "stack": stack,
        "objective": objective, "basis": basis, "fix": fix, "limit": limit, "catalog": catalog,
    }  # fmt: skip
    if not FEWEST <= len(targets) <= MOST:
        raise InputError(
            f"crore compare takes {FEWEST} to {MOST} targets, not {len(targets)}: "
            "for example crore compare llama3_405b llama3_405b:gpus=8k"
        )
    files = [Path(parted(target)[0]) for target in targets]
    drawable(plot, [*files, *filter(None, [catalog])])
    asked = [_asked(target, given) for target in targets]
    answers = [_answer(target, it) for target, (it, _) in zip(targets, asked, strict=True)]
    from crore.cli.document import dumped
    from crore.cli.screen import screen
    from crore.plan import COMPARISON_VERSION, comparison_record, render_comparison
    from crore.plan import compare as side_by_side
    from crore.plan.text.causes import comparison_svg

    notes = [_note(target, answer, saved) for target, answer, (_, saved)
             in zip(targets, answers, asked, strict=True) if saved]  # fmt: skip
    result = side_by_side(answers, targets, notes)
    draw(plot, lambda: comparison_svg(result))
    if as_json:
        typer.echo(dumped("compare", COMPARISON_VERSION, comparison_record(result)))
    else:
        typer.echo(render_comparison(result, screen()))
    if any(answer.interrupted for answer in answers):
        raise typer.Exit(INTERRUPTED)


def parted(target: str) -> tuple[str, dict[str, str]]:
    """Return a target's name and its own keys: `a:tp=8,gpus=4` is `a` with two of them.

    Raises UnknownName for a key there is not, InputError for one without a value or given twice.
    """
    name, colon, own = target.rpartition(":")
    if not colon or "=" not in own:
        return target, {}
    from crore.plan.pins import FIX_KEYS

    keys = tuple(dict.fromkeys((*FLAGS, *FIX_KEYS, *LIMITS)))
    return name, dict(key_values(own, f"target {name[:40]}", keys, lambda _: "8"))


def _asked(target: str, given: dict[str, Any]) -> "tuple[PlanRequest, Saved | None]":
    """Return a target's request, and what its plan file says if it is one."""
    name, own = parted(target)
    pins = {k: v for k, v in own.items() if k not in (*FLAGS, *LIMITS)}
    limits = {k: v for k, v in own.items() if k in LIMITS}
    flags = {
        **given, **{k: v for k, v in own.items() if k in FLAGS},
        "fix": _overlaid(given["fix"], pins), "limit": _overlaid(given["limit"], limits),
    }  # fmt: skip
    saved = _saved(name)
    if saved is None:
        return request_of(name, flags), None
    keys = {f.name: getattr(saved.request, f.name) for f in fields(saved.request)}
    return laid_over(keys, name, flags), saved


def _overlaid(shared: str | None, own: dict[str, str]) -> str:
    """Return `key=value,…` with the shared keys that are not a target's own, and its own."""
    items = (shared or "").split(",")
    kept = [item for item in items if item.partition("=")[0].strip().lower() not in own]
    return ",".join([*kept, *(f"{key}={value}" for key, value in own.items())])


def _saved(name: str) -> "Saved | None":
    from crore.plan import read_saved

    path = Path(name)
    return read_saved(path) if name.endswith(".json") and not path.is_dir() else None


def _answer(target: str, request: "PlanRequest") -> "Answer":
    try:
        return made(request)
    except Infeasible as error:
        raise Infeasible(f"{target[:SHOWN]}: {error}") from error


def _note(target: str, answer: "Answer", saved: "Saved") -> str:
    days = answer.plan.days.value
    same = abs(days / saved.days - 1) <= SAME_DAYS if saved.days else False
    said = "with the same result" if same else f"{days:.4g} days now, {saved.days:.4g} in the file"
    return f"{target[:SHOWN]} (crore {saved.crore}) is planned again from its request, {said}"
