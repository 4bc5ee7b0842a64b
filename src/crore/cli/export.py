"""`crore export`: a trained model for Hugging Face's libraries, vLLM and llama.cpp."""

from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import file_name
from crore.cli.needs import need_packages, need_torch
from crore.errors import InputError, UnknownName

TARGETS = ("hf", "gguf")
Source = Annotated[
    Path,
    typer.Argument(metavar="RUN|DIR", parser=file_name, help="A run, or a Hugging Face folder."),
]
To = Annotated[str, typer.Option("--to", metavar="TARGET", help="hf or gguf.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="PATH", parser=file_name,
        help="Folder (hf) or file (gguf); in RUN if left out.",
    ),
]  # fmt: skip
DType = Annotated[
    str,
    typer.Option("--dtype", metavar="T", help="f32, f16; bf16 (hf); q8_0, q4_0 (gguf)."),
]
DeleteShards = Annotated[
    bool,
    typer.Option(
        "--delete-shards",
        help="DELETE each file of a Hugging Face folder once it is written to the GGUF file.",
    ),
]


def export(
    source: Source, to: To = "gguf", output: Output = None, dtype: DType = "f16",
    delete_shards: DeleteShards = False,
) -> None:  # fmt: skip
    """Write a run's model for other programs.

    crore export runs/this_machine --to gguf --dtype q8_0

    Weights, tokenizer and, where it was taught one, the template of a chat.
    """
    need_torch("export")
    need_packages("export", "gguf" if to == "gguf" else "safetensors")
    from crore.cli.exported import gguf_path, opened, telling
    from crore.serve.export import export_gguf, export_hf

    if to not in TARGETS:
        raise UnknownName("target", to, TARGETS)
    if delete_shards and to != "gguf":
        raise InputError("--delete-shards goes with --to gguf, which holds all that they hold")
    if not source.is_dir():
        raise InputError(f"no folder {str(source)[-120:]}: give a run's, or a Hugging Face one")
    with opened(source, delete=delete_shards) as model, telling("exporting") as tell:
        if to == "gguf":
            path = output or gguf_path(source, dtype)
            export_gguf(model, path, dtype, tell=tell)
            size = path.stat().st_size
        else:
            path = output or source / "hf"
            size = sum(it.stat().st_size for it in export_hf(model, path, dtype, tell=tell))
    typer.echo(f"{path}: {model.spec.name} in {dtype}, {size / 1e6:,.1f} MB")
    if to == "gguf":
        typer.echo(f"talk to it: crore chat {path}")
