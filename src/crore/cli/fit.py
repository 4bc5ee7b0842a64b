"""`crore fit`: what fits on the cards one has."""

from pathlib import Path
from typing import Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, Output, optional_count
from crore.cli.complete import complete_gpu, complete_target
from crore.errors import InputError


def fit(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|MISSION",
            help="A model, a Hugging Face config.json, or a mission.",
            autocompletion=complete_target,
        ),
    ],
    gpu: Annotated[
        str | None,
        typer.Option(
            metavar="G", help="GPU, as `crore catalog gpus` names it.", autocompletion=complete_gpu
        ),
    ] = None,
    gpus: Annotated[str | None, typer.Option(metavar="N", help="How many; 1 if left out.")] = None,
    context: Annotated[
        str | None, typer.Option(metavar="S", help="Tokens per sequence; 4096 if left out.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="T", help="Tokens to tune on; 10M if left out.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="E", help="transformers, or llamacpp (q8_0 and q4_0).")
    ] = "transformers",
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """See what of a model fits on your card: chat, fine-tune, train.

    crore fit baichuan-13b --gpu rtx-3090

    Nothing fits: exit code 1 and what would.
    """
    count, length = optional_count(gpus, "--gpus"), optional_count(context, "--context")
    asked = _asked(model, catalog) | {k: v for k, v in (("gpu", gpu), ("gpus", count)) if v}
    if "gpu" not in asked:
        raise InputError(
            f"crore fit {model[:60]} needs --gpu, for example --gpu rtx-3090 "
            "(all: crore catalog gpus)"
        )
    from crore.cli.document import dumped, written
    from crore.cli.screen import screen
    from crore.io import keep_inputs
    from crore.plan import FIT_VERSION, FitRequest, fit_record, make_fit, render_fit

    if output is not None:
        keep_inputs(output, [Path(model), *filter(None, [catalog])])
    made = make_fit(
        FitRequest(
            **asked, context=length, engine=engine, tokens=optional_count(tokens, "--tokens"),
            catalog_file=catalog,
        )
    )  # fmt: skip
    if output is not None:
        written(output, "fit", FIT_VERSION, fit_record(made))
    typer.echo(
        dumped("fit", FIT_VERSION, fit_record(made)) if as_json else render_fit(made, screen())
    )


def _asked(target: str, catalog_file: Path | None) -> dict[str, Any]:
    """Return the model, and the GPU and how many of them where `target` is a mission."""
    from crore.catalog import load_catalog
    from crore.plan import read_mission

    fields = read_mission(target) or {"model": target}
    if "cluster" in fields:
        cluster = load_catalog(catalog_file).cluster(fields["cluster"])
        fields = {"gpu": cluster.accelerator, "gpus": cluster.gpus, **fields}
    return {key: fields[key] for key in ("model", "gpu", "gpus") if key in fields}
