"""What a folder's checkpoints are of: the run that goes on there must be the same one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.train.checkpoint import folder as folders
from crore.train.checkpoint.manifest import Damaged, read
from crore.train.data import Dataset
from crore.train.job import Job
from crore.train.place import Place

_NAMES: Final = {
    "model": "model", "shape": "shape of the model", "seed": "seed", "seq_len": "sequence length",
    "data": "text or tokenizer", "weights": "weights of the sources", "optimizer": "optimizer",
}  # fmt: skip


def identity(job: Job, data: Dataset) -> dict[str, Any]:
    """Return what must not change while a run lasts, as JSON takes it.

    Layout, batch, length, schedule and learning rate may.
    """
    return {
        "model": job.spec.name, "shape": shape_digest(job.spec), "seed": job.seed,
        "seq_len": job.seq_len, "data": data.key, "weights": list(data.weights),
        "optimizer": job.optimizer,
    }  # fmt: skip


def steps_done(job: Job, data: Dataset) -> int:
    """Return the steps' worth that the run in a job's folder has done, 0 for none.

    Raises InputError when it is another run than the job's. Only manifests are read: whether the
    tensors are sound is seen when they are.
    """
    for saved in folders.finished(job.checkpoints):
        try:
            manifest = read(saved.path)
        except Damaged:
            continue
        _check_same(manifest.facts.get("identity", {}), identity(job, data), job.folder)
        return math.floor(job.done(Place(**manifest.facts["place"])))
    return 0


def finished(job: Job, done: int) -> str:
    """Return the line for a run that has nothing left to do."""
    asked = "" if done == job.steps else f", more than the {job.steps:,} that are asked for"
    return (
        f"FINISHED  the run in {job.folder} has done {done:,} steps{asked}: --steps {2 * done} "
        "would go on, --fresh begin anew, --out begin another"
    )


def _check_same(there: Mapping[str, Any], here: Mapping[str, Any], folder: Path) -> None:
    for key, name in _NAMES.items():
        if there.get(key) != here[key]:
            shown = key not in ("shape", "data", "weights")
            numbers = f": {there.get(key)} there, {here[key]} here" if shown else ""
            raise InputError(
                f"the run in {str(folder)[-60:]} has another {name}{numbers}; give another --out, "
                "or --fresh to delete it and begin anew"
            )


def shape_digest(spec: ModelSpec) -> str:
    """Return a hash of all that shapes a model, its name and sources left out."""
    shape = {key: value for key, value in asdict(spec).items() if key not in ("name", "provenance")}
    return hashlib.sha256(repr(sorted(shape.items())).encode()).hexdigest()[:16]
