"""What a run leaves to others: the model, its newest weights, its tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from crore.catalog import load_catalog
from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.io import exists, read_toml, write_text
from crore.plan import read_saved
from crore.train.checkpoint import folder as folders
from crore.train.checkpoint.manifest import Kind
from crore.train.checkpoint.progress import Progress
from crore.train.checkpoint.weights import Weights, newest_weights, write_weights
from crore.train.data.tokenizer import load_encoder
from crore.train.folder import CHECKPOINTS, MODEL, PLAN, TOKENIZER
from crore.train.resume import shape_digest
from crore.train.small import catalogue_file


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A run's model, ready to be read."""

    folder: Path
    """With its tokenizer: the run's, or that of a world of a fleet."""
    spec: ModelSpec
    weights: Weights
    context: int
    """Tokens of the sequences it was trained on."""
    end_of_text: str
    """The token that ends a text; "" where the folder has no `tokenizer.json`."""


def open_trained(folder: Path, progress: Progress | None = None) -> Trained:
    """Return what the run in a folder, or `write_trained`, left there.

    Of a fleet, the checkpoints of its first island. Raises `InputError` when there is no run, no
    sound checkpoint, or its model is no longer what the catalogue says.
    """
    spec = _spec(folder)
    weights = newest_weights(_checkpoints(folder), progress)
    identity = weights.facts.get("identity", {})
    if identity.get("shape") != shape_digest(spec):
        raise InputError(
            f"the weights in {str(folder)[-60:]} are of another shape of {spec.name} than the "
            "catalogue's: give the run the catalogue file it was trained with"
        )
    homes = (folder, *sorted(folder.glob("world-[0-9]*")))  # worlds of a fleet keep it each
    home = next((it for it in homes if exists(it / TOKENIZER)), None)
    return Trained(
        folder=home or folder, spec=spec, weights=weights, context=int(identity["seq_len"]),
        end_of_text=load_encoder(home / TOKENIZER).end_name if home else "",
    )  # fmt: skip


class Source(Protocol):
    """A model of others, read tensor by tensor."""

    spec: ModelSpec
    shapes: dict[str, tuple[int, ...]]
    """Of its weights, in the order in which they are best read."""

    @property
    def context(self) -> int:
        """Tokens it was made for."""

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are to be kept in."""

    def read(self, name: str) -> Tensor:
        """Return a whole weight in main memory."""


def write_trained(folder: Path, source: Source, tell: Callable[[int, int], None]) -> None:
    """Leave a model in a folder as a run does, as a checkpoint of step 0.

    `tell` hears the weights begun and all. Raises `InputError` where a run is there already, and
    where the disk refuses.
    """
    if folders.finished(folder / CHECKPOINTS) or exists(folder / PLAN):
        raise InputError(f"{str(folder)[-80:]} holds a run already: give another -o")
    kinds = {name: Kind.of(shape, source.dtype) for name, shape in source.shapes.items()}
    places = {name: place for place, name in enumerate(kinds, start=1)}

    def read(name: str) -> Tensor:
        tell(places[name], len(places))
        return source.read(name).to(source.dtype)

    spec = source.spec
    identity = {"model": spec.name, "shape": shape_digest(spec), "seq_len": source.context}
    write_weights(folder / CHECKPOINTS, kinds, read, {"identity": identity})
    write_text(folder / MODEL, catalogue_file(spec, "imported by crore import"))


def _checkpoints(folder: Path) -> Path:
    islands = sorted(folder.glob(f"island-[0-9]*/{CHECKPOINTS}"))
    return islands[0] if islands else folder / CHECKPOINTS


def _spec(folder: Path) -> ModelSpec:
    """Return the model of a run: the one written beside it, or the one its plan names."""
    if exists(folder / MODEL):
        name = next(iter(read_toml(folder / MODEL)["models"]))
        return load_catalog(folder / MODEL).model(name)
    plans = [path for path in (folder / PLAN, *sorted(folder.glob(f"world-*/{PLAN}")))
             if exists(path)]  # fmt: skip
    saved = read_saved(plans[0]) if plans else None
    if saved is None:
        raise InputError(f"{str(folder)[-80:]} holds no run: no {MODEL} and no {PLAN}")
    return load_catalog(saved.request.catalog_file).model(saved.request.model)
