"""`crore import`: a Hugging Face checkpoint becomes one that crore trains and exports."""

import math
from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import file_name
from crore.cli.needs import need_packages, need_torch
from crore.errors import InputError

Source = Annotated[
    Path,
    typer.Argument(metavar="DIR", parser=file_name, help="A Hugging Face folder."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", parser=file_name, help="Folder; runs/NAME if left out."
    ),
]


def import_(source: Source, output: Output = None) -> None:
    """Read a Hugging Face checkpoint, file by file.

    crore import models/Baichuan-13B-Chat -o runs/baichuan

    Llama, Mistral, Mixtral, Qwen 2 and 3, Baichuan; safetensors or .bin. Nothing is downloaded.
    """
    need_torch("import")
    need_packages("import", "safetensors")
    from crore.cli.exported import telling
    from crore.serve.export import copy_tokenizer
    from crore.serve.importing import open_hf
    from crore.train.trained import write_trained

    if not source.is_dir():
        raise InputError(f"no folder {str(source)[-120:]}: give one with a config.json")
    folder = output or Path("runs") / source.resolve().name
    model = open_hf(source)
    with telling("importing") as tell:
        write_trained(folder, model, tell)
    model.close()
    copy_tokenizer(source, folder)
    parameters = sum(math.prod(shape) for shape in model.shapes.values())
    typer.echo(f"{folder}: {model.spec.name}, {parameters:,} parameters, step 0 of a run")
    typer.echo(f"next: crore export {folder} --to gguf")
