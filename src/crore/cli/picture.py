"""`--plot FILE.svg`: where it may be written is known before the work, not after."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import file_name
from crore.cli.document import writable
from crore.errors import InputError, shown

Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE.svg", parser=file_name, help="Draw it, too: a picture (SVG)."
    ),
]


def drawable(path: Path | None, inputs: Iterable[Path], output: Path | None = None) -> None:
    """Raise InputError where a picture cannot go: no .svg, no such folder, another file's place."""
    from crore.io import keep_inputs

    if path is None:
        return
    if path.suffix.lower() != ".svg":
        name = f"{path.stem[:40]}.svg"
        raise InputError(f"--plot draws SVG: name the file {name}, not {shown(path.name)}")
    writable(path, "--plot")
    if output is not None and output.resolve() == path.resolve():
        raise InputError(f"--plot and --output both name {str(path)[-60:]}: give each its own")
    keep_inputs(path, inputs)


def draw(path: Path | None, picture: Callable[[], str]) -> None:
    """Write what `picture` draws, where a picture was asked for."""
    from crore.io import write_text

    if path is not None:
        write_text(path, picture())
