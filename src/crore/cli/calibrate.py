"""`crore calibrate`: measure this machine for the catalogue."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import file_name
from crore.cli.needs import need_torch
from crore.cli.progress import steps


def calibrate(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.toml", parser=file_name,
            help="Where to write; crore's folder in your cache if left out.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="Processes to measure beside one [default: 2 where there are 2 cores]."),
    ] = None,
) -> None:  # fmt: skip
    """Measure this machine, in about a minute."""
    from crore.catalog.calibration import calibration_path
    from crore.catalog.calibration_text import calibration_text
    from crore.io import write_text

    need_torch("calibrate")
    from crore.train.calibrate import calibrate as measure

    path = output or calibration_path()
    if output is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with steps() as watch:
        made = measure(processes, watch)
        if made.device == "cpu" and all(map(find_spec, ("xllamacpp", "gguf"))):
            from crore.serve.measure import read_rates

            made = replace(made, read_bytes_per_s=read_rates())
    write_text(path, calibration_text(made))
    typer.echo(f"{made.name}, {made.cores} cores, torch {made.torch}: {made.took_s:.0f} s")
    if made.spread > DISAGREE:
        typer.echo(
            f"Its rounds disagree by {100 * made.spread:.0f} %: something else ran. Measure again "
            "when the machine is quiet."
        )
    elif made.spread >= 0:
        typer.echo(f"Its rounds agree within {100 * made.spread:.1f} % (median).")
    typer.echo(f"Wrote {path}; crore plan this_machine reads it.")


DISAGREE = 0.1
"""Spread of the rounds from which other work shows: eleven calibrations beside other work on two
cores had 20 % and more, the tables of three on quiet ones 3 to 4 %."""
