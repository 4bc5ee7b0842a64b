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

from crore.errors import InputError
from crore.train.checkpoint.manifest import Manifest, check_model, read, verify
from crore.train.checkpoint.team import RankFailed, Team


def load(team: Team, folder: Path, tensors: Mapping[str, Tensor]) -> Manifest:
    """Fill `tensors` from the checkpoint in `folder`, once it is known to be sound and theirs.

    Raises, on every rank and with `tensors` as they were, `Damaged` when it is not what was
    written and `InputError` when it is of another model or of a newer crore. `InputError` too
    when the disk fails after that.
    """
    contents = team.share(lambda: read(folder))
    check_model(team, folder, contents, tensors)
    verify(team, folder, contents)
    try:
        team.reduce(lambda: _fill(folder, tensors), lambda _: None)
    except RankFailed as error:
        raise InputError(f"cannot load {folder.name}: {error}") from error
    return contents


def _fill(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read what this rank holds; the names are flat, and no rank needs to hear of the others."""
    reader = FileSystemReader(folder)
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    metadata = reader.read_metadata()
    planner.set_up_planner({name: tensor.detach() for name, tensor in tensors.items()}, metadata)
    reader.set_up_storage_reader(metadata, is_coordinator=False)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(planner.finish_plan(plan), planner).wait()
