"""`crore lighthouse`: where worlds of an island, or islands of a fleet, learn who is there."""

from typing import Annotated

import typer

from crore.cli.needs import need_torch


def lighthouse(
    port: Annotated[
        int, typer.Option(metavar="P", min=0, max=65535, help="A free one if 0.")
    ] = 29510,
    host: Annotated[str, typer.Option(metavar="H", help="Address to listen at.")] = "0.0.0.0",  # noqa: S104
    least: Annotated[
        int, typer.Option("--min-worlds", metavar="N", min=1, help="Members of a quorum.")
    ] = 1,
    grace: Annotated[
        float,
        typer.Option(metavar="S", min=0, help="Wait so long for members that live and do not ask."),
    ] = 60.0,
) -> None:
    """Say to worlds who else is there, until ended.

    One per island, and one for the fleet between islands: crore train --lighthouse, --fleet.
    """
    need_torch("lighthouse")
    from crore.train.fault.lighthouse import serve

    serve(port, least, grace, host)
