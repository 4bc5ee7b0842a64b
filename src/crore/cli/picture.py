"""`--plot FILE.svg`: where it may be written is known before the work, not after."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import file_name
from crore.errors import InputError, shown

Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE.svg", parser=file_name, help="Draw it, too: a picture (SVG)."
    ),
]


def drawable(path: Path | None, inputs: Iterable[Path], output: Path | None = None) -> None:
    """Raise InputError where a picture cannot go: no .svg, no such folder, another file's place."""
    from crore.io import exists, keep_inputs

    if path is None:
        return
    if path.suffix.lower() != ".svg":
        name = f"{path.stem[:40]}.svg"
        raise InputError(f"--plot draws SVG: name the file {name}, not {shown(path.name)}")
    folder = path.parent
    if exists(path) and path.is_dir():
        raise InputError(f"--plot cannot write {str(path)[-60:]}: a folder has that name")
    if not (exists(folder) and folder.is_dir()):
        raise InputError(
            f"--plot cannot write {str(path)[-60:]}: there is no folder {str(folder)[-80:]}"
        )
    if not os.access(folder, os.W_OK):
        raise InputError(f"--plot cannot write {str(path)[-60:]}: its folder is closed to you")
    if output is not None and output.resolve() == path.resolve():
        raise InputError(f"--plot and --output both name {str(path)[-60:]}: give each its own")
    keep_inputs(path, inputs)


def draw(path: Path | None, picture: Callable[[], str]) -> None:
    """Write what `picture` draws, where a picture was asked for."""
    from crore.io import write_text

    if path is not None:
        write_text(path, picture())
