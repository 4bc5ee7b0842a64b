"""The model's weights in a checkpoint, apart from the run they are of: one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import WriteItem

from crore.errors import InputError
from crore.train.checkpoint import folder as folders
from crore.train.checkpoint import reading, writing
from crore.train.checkpoint.manifest import Damaged, Kind, Manifest, read, verify
from crore.train.checkpoint.progress import Progress
from crore.train.checkpoint.team import RankFailed, Team

MODEL: Final = "model."
"""What the names of weights begin with, beside the optimizer's."""


class Weights:
    """The weights of one sound checkpoint; names are those of the whole model, unprefixed."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self.step, self.facts = manifest.step, manifest.facts
        self.kinds: dict[str, Kind] = {
            name.removeprefix(MODEL): kind
            for name, kind in manifest.tensors.items()
            if name.startswith(MODEL)
        }
        """Shape and type of each weight."""

    def read(self, name: str) -> Tensor:
        """Return a whole weight in main memory, as it was saved."""
        kind = self.kinds[name]
        tensor = torch.empty(kind.shape, dtype=getattr(torch, kind.dtype))
        self.fill({name: tensor})
        return tensor

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Set tensors, sharded in whatever way and of whatever type, to the saved values.

        Each rank reads what it holds. Raises `InputError` where names or shapes are not those
        saved, and where the disk fails.
        """
        for name, tensor in tensors.items():
            saved = self.kinds.get(name)
            if saved is None or saved.shape != list(tensor.shape):
                there = "is not there" if saved is None else f"is {saved.shape} there"
                raise InputError(
                    f"{self._folder.name} is of another model: {name} {there}, "
                    f"{list(tensor.shape)} here"
                )
        try:
            named = {MODEL + name: tensor for name, tensor in tensors.items()}
            Team(None).reduce(lambda: reading.fill(self._folder, named, None), lambda _: None)
        except RankFailed as error:
            raise InputError(f"cannot load {self._folder.name}: {error}") from error


def newest_weights(folder: Path, progress: Progress | None = None) -> Weights:
    """Return the weights of the newest sound checkpoint in a folder of checkpoints.

    Every file of it is hashed first. Raises `InputError` when there is none.
    """
    problem = ""
    for saved in folders.finished(folder):
        try:
            manifest = read(saved.path)
            verify(Team(None), saved.path, manifest, progress)
        except Damaged as error:
            problem = problem or f": {saved.path.name} is damaged ({error})"
            continue
        return Weights(saved.path, manifest)
    raise InputError(f"no sound checkpoint in {str(folder)[-80:]}{problem}")


def write_weights(
    folder: Path, kinds: Mapping[str, Kind], read: Callable[[str], Tensor], facts: dict[str, Any]
) -> Path:
    """Write weights as the checkpoint of step 0 and return its folder.

    They are asked for one at a time, in the order of `kinds`; no two are in memory together. What a
    killed writer left in the folder is removed.
    """
    tensors = {
        MODEL + name: torch.empty(kind.shape, dtype=getattr(torch, kind.dtype), device="meta")
        for name, kind in kinds.items()
    }
    folders.sweep(folder)
    draft = folders.draft(folder, 0)
    content = writing.Content(step=0, tensors=tensors, facts=facts)
    try:
        writing.write(Team(None), draft, content, _Asking(read))
    except BaseException:
        folders.discard(draft)
        raise
    return folders.publish(draft)


class _Asking(DefaultSavePlanner):
    """Plans from tensors without memory, and asks for each when it is written."""

    def __init__(self, read: Callable[[str], Tensor]) -> None:
        super().__init__()
        self._read = read

    def resolve_data(self, write_item: WriteItem) -> Tensor:
        return self._read(write_item.index.fqn.removeprefix(MODEL))
