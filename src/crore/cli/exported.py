"""A model for other programs: a run's, or one in a Hugging Face folder."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crore.cli.progress import steps
from crore.errors import InputError

if TYPE_CHECKING:
    from crore.serve.export import Model

Tell = Callable[[int, int], None]


@contextlib.contextmanager
def opened(folder: Path, *, delete: bool = False) -> Iterator["Model"]:
    """Give the model in a folder; `delete` removes a Hugging Face folder's files once written.

    Raises InputError where there is none.
    """
    from crore.serve.models import is_run

    if not is_run(folder):
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{str(folder)[-80:]} holds no run and no Hugging Face model (no config.json)"
            )
        with _hugging_face(folder, delete=delete) as model:
            yield model
        return
    if delete:
        raise InputError("--delete-shards is for Hugging Face folders; a run's files stay")
    yield _of_run(folder)


def _of_run(folder: Path) -> "Model":
    from crore.serve.export import Model
    from crore.serve.names import shapes
    from crore.train.trained import open_trained

    with steps("checking") as show:
        watch = None if show is None else lambda what, done, of: show(done / max(of, 1), what)
        trained = open_trained(folder, watch)
    return Model(
        spec=trained.spec, names=tuple(shapes(trained.spec)), read=trained.weights.read,
        context=trained.context, tokenizer=trained.folder, end_of_text=trained.end_of_text,
    )  # fmt: skip


@contextlib.contextmanager
def _hugging_face(folder: Path, *, delete: bool) -> Iterator["Model"]:
    from crore.serve.export import Model
    from crore.serve.importing import open_hf

    source = open_hf(folder, delete=delete)
    yield Model(
        spec=source.spec, names=tuple(source.shapes), read=source.read, context=source.context,
        tokenizer=folder,
    )  # fmt: skip
    source.close()


@contextlib.contextmanager
def telling(title: str) -> Iterator[Tell]:
    """Give an export something to report to: a bar on a terminal."""
    with steps(title) as show:

        def tell(done: int, of_all: int) -> None:
            if show is not None:
                show(done / of_all, f"{done:,} of {of_all:,} tensors")

        yield tell


def gguf_of(folder: Path, dtype: str = "f16") -> Path:
    """Return a run's model as a GGUF file in its folder, made where the newest weights have none.

    Raises InputError where there is no run, and for a model that has no form in GGUF.
    """
    from crore.serve.export import export_gguf

    path = gguf_path(folder, dtype)
    if _is_older(path, folder):
        with opened(folder) as model, telling("exporting") as tell:
            export_gguf(model, path, dtype, tell=tell)
    return path


def hf_of(folder: Path) -> Path:
    """Return a run's model as a Hugging Face folder in its own, made as `gguf_of` makes a file."""
    from crore.serve.export import export_hf

    path, draft = folder / "served", folder / "served.draft"
    if _is_older(path / "config.json", folder):
        for old in (path, draft):
            shutil.rmtree(old, ignore_errors=True)
        with opened(folder) as model, telling("exporting") as tell:
            export_hf(model, draft, "bf16", tell=tell)
        draft.rename(path)
    return path


def _is_older(made: Path, folder: Path) -> bool:
    """Return whether what was made of a run is not there, or older than its newest weights."""
    saved = [it.stat().st_mtime for it in folder.glob("**/checkpoint/step-*")]
    return not made.is_file() or made.stat().st_mtime < max(saved, default=0.0)


def gguf_path(folder: Path, dtype: str) -> Path:
    """Return where a folder's model goes as a GGUF file."""
    return folder / f"{folder.resolve().name}-{dtype}.gguf"
