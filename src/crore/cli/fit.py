"""`crore fit`: what fits on the cards one has."""

from typing import Annotated

import typer

from crore.cli.arguments import AsJson, CatalogFile, optional_count
from crore.cli.complete import complete_gpu, complete_model
from crore.errors import InputError


def fit(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model, or a Hugging Face config.json.",
            autocompletion=complete_model,
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
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """See what of a model fits on your card: chat, fine-tune, train.

    crore fit baichuan-13b --gpu rtx-3090

    Nothing fits: exit code 1 and what would.
    """
    if gpu is None:
        raise InputError(
            f"crore fit {model[:60]} needs --gpu, for example --gpu rtx-3090 "
            "(all: crore catalog gpus)"
        )
    count, tokens = optional_count(gpus, "--gpus"), optional_count(context, "--context")
    from crore.cli.document import dumped
    from crore.plan import SCHEMA_VERSION, FitRequest, fit_record, make_fit, render_fit

    made = make_fit(
        FitRequest(model=model, gpu=gpu, gpus=count or 1, context=tokens, catalog_file=catalog)
    )
    typer.echo(dumped("fit", SCHEMA_VERSION, fit_record(made)) if as_json else render_fit(made))
