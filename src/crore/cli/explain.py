"""`crore explain`: a number of a plan or a fit, back to formula, constants and sources."""

from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import AsJson, file_name


def explain(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=file_name, help="What crore plan -o or crore fit -o wrote."
        ),
    ],
    number: Annotated[
        str | None, typer.Argument(metavar="[NUMBER]", help="One number; all if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See where a number of a plan or a fit comes from.

    crore explain plan.json step_split_s.tp

    The file is made again from its request; a difference is said.
    """
    from crore.cli.document import dumped
    from crore.plan import EXPLANATION_VERSION, explain_file, explain_record, render_explained

    made = explain_file(file, number or "")
    if as_json:
        typer.echo(dumped("explain", EXPLANATION_VERSION, explain_record(made)))
    else:
        typer.echo(render_explained(made))
