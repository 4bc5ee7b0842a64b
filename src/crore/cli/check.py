"""`crore check`: everything that is wrong with a mission, before anything is planned."""

from typing import Annotated

import typer

from crore.cli.arguments import AsJson, CatalogFile
from crore.cli.complete import complete_mission


def check(
    mission: Annotated[
        str,
        typer.Argument(
            metavar="MISSION",
            help="A mission, or a mission file.",
            autocompletion=complete_mission,
        ),
    ],
    catalog: CatalogFile = None,
    as_json: AsJson = False,
) -> None:
    """Check a mission: names, units, divisibility, memory.

    crore check ten_million

    Exit codes: 0 fine, 1 sound but nothing fits, 2 something is wrong.
    """
    from crore.cli.document import dumped
    from crore.plan import CHECK_VERSION, check_mission, check_record, render_check

    made = check_mission(mission, catalog)
    text = dumped("check", CHECK_VERSION, check_record(made)) if as_json else render_check(made)
    typer.echo(text)
    raise typer.Exit(made.exit_code)
