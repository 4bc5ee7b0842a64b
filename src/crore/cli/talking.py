"""The model that `crore chat` and `crore serve` are given."""

from pathlib import Path
from typing import TYPE_CHECKING

from crore.cli.needs import need_packages, need_torch

if TYPE_CHECKING:
    from crore.serve.models import Found


def model_of(target: str | None, command: str) -> "Found":
    """Return what to talk to; a run, or a Hugging Face folder, becomes a GGUF file first.

    Raises InputError where there is no model, and UnknownName.
    """
    need_packages(command, "xllamacpp")
    from crore.serve.models import Found, find_model, is_exportable

    if target is None or not is_exportable(Path(target)):
        return find_model(target)
    need_torch(command)
    need_packages(command, "gguf")
    from crore.cli.exported import gguf_of

    folder = Path(target)
    return Found(path=gguf_of(folder), name=folder.resolve().name)
