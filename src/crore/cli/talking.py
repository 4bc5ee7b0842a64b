"""The model that `crore chat` and `crore serve` are given, and the engine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crore.cli.needs import need_packages, need_torch
from crore.errors import InputError, UnknownName

if TYPE_CHECKING:
    from crore.serve.models import Found
    from crore.serve.server import Behind

LLAMA_CPP = "llamacpp"


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


def known_engine(engine: str) -> None:
    """Raise UnknownName for what is no engine, InputError for one that is not installed."""
    from crore.serve.child import OTHERS, check_installed

    if engine == LLAMA_CPP:
        return
    if engine not in OTHERS:
        raise UnknownName("engine", engine, [LLAMA_CPP, *OTHERS])
    check_installed(engine)


@contextlib.contextmanager
def other_engine(engine: str, folder: Path, target: str | None) -> Iterator["Behind"]:
    """Give vLLM or transformers serving a folder, by the target's name; it ends with the block."""
    from crore.serve.child import running

    with running(engine, folder, Path(target or folder).resolve().name) as behind:
        yield behind


def folder_of(engine: str, target: str | None) -> Path:
    """Return a Hugging Face folder to serve; a run's becomes one first, in its folder.

    Raises InputError for what is neither.
    """
    folder = Path(target or "")
    from crore.serve.models import is_exportable, is_run

    if target is None or not is_exportable(folder):
        raise InputError(f"--engine {engine} serves a run or a Hugging Face folder: give one")
    if not is_run(folder):
        return folder
    need_torch(f"--engine {engine}")
    from crore.cli.exported import hf_of

    return hf_of(folder)
