"""`crore validate`: predictions held against measured runs."""

from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import AsJson, CatalogFile, file_name
from crore.cli.picture import Plot, draw, drawable


def validate(
    runs: Annotated[
        Path,
        typer.Argument(metavar="RUNS.jsonl", parser=file_name, help="Measured runs, one a line."),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.jsonl", parser=file_name, help="Write the prediction of every run."
        ),
    ] = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    plot: Plot = None,
) -> None:
    """Predict measured runs; see how far off that is."""
    from crore.catalog import load_catalog, read_runs
    from crore.cli.document import dumped
    from crore.io import keep_inputs, write_jsonl
    from crore.plan import VALIDATION_VERSION, render_validation, validate_runs, validation_record
    from crore.plan.text.accuracy import validation_svg

    if predictions is not None:
        keep_inputs(predictions, [runs, *filter(None, [catalog])])
    drawable(plot, [runs, *filter(None, [catalog])], predictions)
    known, asked = load_catalog(catalog), read_runs(runs)
    made = validate_runs(asked, known)
    if predictions is not None:
        write_jsonl(predictions, made.predictions)
    draw(plot, lambda: validation_svg(made, asked, known))
    if as_json:
        typer.echo(dumped("validate", VALIDATION_VERSION, validation_record(made)))
    else:
        typer.echo(render_validation(made))
