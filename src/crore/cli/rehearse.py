"""`crore rehearse`: the trainer's own step as any rank of a plan, without the cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from crore.cli.arguments import AsJson, CatalogFile, Output
from crore.cli.needs import need_torch
from crore.cli.progress import steps
from crore.cli.request import Target
from crore.errors import InputError, UnknownName

if TYPE_CHECKING:
    from crore.cli.planned import Planned
    from crore.rehearse.classes import Reach
    from crore.rehearse.place import Fleet

Rank = Annotated[
    int, typer.Option("--rank", metavar="GPU", help="GPU of the fleet to be, counted from 0.")
]
ReachName = Annotated[
    str,
    typer.Option(
        metavar="REACH",
        help="Ranks to match: one, near (neighbours, ends, edges of each axis) or all stages.",
    ),
]
Real = Annotated[
    int,
    typer.Option(
        "--real", metavar="N",
        help="Instead: the plan scaled to at most N processes here, fake against real.",
    ),
]  # fmt: skip
Worlds = Annotated[
    int,
    typer.Option(metavar="N", help="Worlds of the fleet, each as planned (default: the plan's)."),
]
Islands = Annotated[int, typer.Option(metavar="N", help="Islands that the worlds stand on.")]
INTERRUPTED = 130


def rehearse(
    target: Target, rank: Rank = 0, worlds: Worlds = 0, islands: Islands = 1,
    agree: ReachName = "near", real: Real = 0, catalog: CatalogFile = None,
    as_json: AsJson = False, output: Output = None,
) -> None:  # fmt: skip
    """Run the trainer's own step as any rank of a plan, here.

    crore rehearse plan.json --rank 7654321

    It would not fit, differ from the plan, or hang: exit code 1.
    """
    need_torch("rehearse")
    from crore.rehearse.classes import REACHES

    if agree not in REACHES:
        raise UnknownName("reach", agree, REACHES)
    planned = _planned(target, catalog)
    if real and (as_json or output is not None):
        raise InputError("--real prints a table of fake against real; leave out --json and -o")
    if real:
        _real(planned, real)
        return
    _fake(planned, rank, agree, (worlds, islands), output, as_json=as_json)


def _planned(target: str, catalog: Path | None) -> "Planned":
    from crore.cli.planned import plan_of

    return plan_of(target, {"catalog": catalog}, Path(), small=False)


def _fake(
    planned: "Planned", rank: int, reach: str, counts: tuple[int, int], output: Path | None, *,
    as_json: bool,
) -> None:  # fmt: skip
    from crore.cli.document import dumped, written
    from crore.rehearse.rehearsal import rehearse_plan
    from crore.rehearse.report import SCHEMA_VERSION, record, render

    fleet = _fleet(planned, *counts)
    with steps("rehearsal") as watch:
        done = rehearse_plan(
            planned.body, planned.spec, rank, cast("Reach", reach), watch, fleet=fleet
        )
    body = record(done)
    if output is not None:
        written(output, "rehearsal", SCHEMA_VERSION, body)
    typer.echo(dumped("rehearsal", SCHEMA_VERSION, body) if as_json else render(done))
    if done.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not done.agrees:
        raise typer.Exit(1)


def _fleet(planned: "Planned", worlds: int, islands: int) -> "Fleet | None":
    """Return so many of the plan's world, or None for its own fleet."""
    from crore.rehearse.place import Fleet, fleet_of

    if not worlds and islands == 1:
        return None
    if not worlds:
        raise InputError("--islands says how --worlds are spread: give both")
    if worlds < 0 or islands < 1:
        raise InputError(f"--worlds {worlds} on --islands {islands}: both are counts from 1")
    return Fleet(islands=islands, worlds=worlds, ranks=fleet_of(planned.body).ranks)


def _real(planned: "Planned", processes: int) -> None:
    from crore.rehearse.place import work_of
    from crore.rehearse.scaled import check, scaled

    work = scaled(work_of(planned.body, planned.spec), processes)
    text, same = check(work)
    typer.echo(text)
    if not same:
        raise typer.Exit(1)
