"""`crore launch`: a plan becomes the files that run it."""

from pathlib import Path
from typing import Annotated

import typer

from crore.cli.arguments import CatalogFile, file_name
from crore.cli.request import Target
from crore.errors import InputError, UnknownName

To = Annotated[
    str,
    typer.Option(
        "--to", metavar="TARGET",
        help="torchrun, slurm, kubernetes, torchtitan, megatron or skypilot.",
    ),
]  # fmt: skip
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", parser=file_name, help="Folder for the files."),
]
NodeGpus = Annotated[
    int,
    typer.Option(
        "--gpus-per-node", metavar="N", help="GPUs of a node (default: the plan's machine's)."
    ),
]
Image = Annotated[
    str, typer.Option(metavar="NAME", help="Container image with crore[train] (kubernetes).")
]
LARGEST_NODE = 1024


def launch(
    target: Target, to: To, output: Output, gpus_per_node: NodeGpus = 0, image: Image = "",
    catalog: CatalogFile = None,
) -> None:  # fmt: skip
    """Write the files that run a plan elsewhere.

    crore launch plan.json --to slurm -o job

    They say what they leave out; a plan of which the target would train something else is
    refused: exit code 2.
    """
    from crore.catalog import load_catalog
    from crore.cli.document import dumped, headed
    from crore.cli.planned import body_of
    from crore.launch import IMAGE, TARGETS, export, launch_of, readme, write_launch
    from crore.plan import SCHEMA_VERSION
    from crore.plan.saved import request_from

    if to not in TARGETS:
        raise UnknownName("target", to, TARGETS)
    _check(to, gpus_per_node, image)
    body = body_of(target, {"catalog": catalog})
    request = request_from(body["request"], target[-40:])
    whole = launch_of(body, load_catalog(request.catalog_file), node_gpus=gpus_per_node)
    text = dumped("plan", SCHEMA_VERSION, body) + "\n"
    made = export(to, whole, text, image=image or IMAGE)
    names = write_launch(output, whole, made, text, headed({}))
    typer.echo(f"{output}: {', '.join(names)}\n\n{readme(whole, made)}", nl=False)


def _check(to: str, gpus_per_node: int, image: str) -> None:
    if not 0 <= gpus_per_node <= LARGEST_NODE:
        raise InputError(f"--gpus-per-node must be 1 to {LARGEST_NODE}, not {gpus_per_node}")
    if image and to != "kubernetes":
        raise InputError(f"--image is for --to kubernetes, not {to}")
    if image and (len(image) > 250 or not image.isprintable() or " " in image):
        raise InputError(f"--image must be the name of an image, not {image[:60]!r}")
