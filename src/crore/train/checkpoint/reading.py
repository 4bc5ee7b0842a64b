"""One checkpoint read into the tensors of a model, however either of them is sharded.

The steps are those of `torch.distributed.checkpoint.load` (PyTorch 2.13), which warns whenever
there is no process group.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.tensor import DTensor

from crore.errors import InputError
from crore.train.checkpoint.manifest import Manifest, check_model, read, verify
from crore.train.checkpoint.progress import Meter, Progress
from crore.train.checkpoint.team import RankFailed, Team


def load(
    team: Team, folder: Path, tensors: Mapping[str, Tensor], progress: Progress | None = None
) -> Manifest:
    """Fill `tensors` from the checkpoint in `folder`, once it is known to be sound and theirs.

    Raises, on every rank and with `tensors` as they were, `Damaged` when it is not what was
    written and `InputError` when it is of another model or of a newer crore. `InputError` too
    when the disk fails after that.
    """
    contents = team.share(lambda: read(folder))
    check_model(team, folder, contents, tensors)
    verify(team, folder, contents, progress)
    try:
        team.reduce(lambda: fill(folder, tensors, progress), lambda _: None)
    except RankFailed as error:
        raise InputError(f"cannot load {folder.name}: {error}") from error
    return contents


class _MeteredPlanner(DefaultLoadPlanner):
    """Loads flat names, and tells how far it is."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._meter = meter

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        super().commit_tensor(read_item, tensor)
        self._meter.advance(tensor.nbytes)


def fill(folder: Path, tensors: Mapping[str, Tensor], progress: Progress | None) -> None:
    """Read what this rank holds of what is in `folder`; no rank needs to hear of the others."""
    held = {name: tensor.detach() for name, tensor in tensors.items()}
    total_bytes = sum(_local(tensor).nbytes for tensor in held.values())
    planner = _MeteredPlanner(Meter("load", total_bytes, progress))
    reader = FileSystemReader(folder)
    metadata = reader.read_metadata()
    planner.set_up_planner(held, metadata)
    reader.set_up_storage_reader(metadata, is_coordinator=False)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(planner.finish_plan(plan), planner).wait()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
