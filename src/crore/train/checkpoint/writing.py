"""One checkpoint written: copied, planned with the other ranks, hashed on its way to the disk.

The steps are those of `torch.distributed.checkpoint.save` (PyTorch 2.13), taken one by one: that
function warns whenever there is no process group, and hides a full disk in a traceback.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.storage import WriteResult

from crore.train.checkpoint import manifest
from crore.train.checkpoint.manifest import File, Kind, Manifest
from crore.train.checkpoint.team import RankFailed, Team

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What one rank brings to a checkpoint."""

    step: int
    """Optimizer steps done."""
    tensors: dict[str, Tensor]
    """As `staged` returns them."""
    facts: dict[str, Any]
    """As JSON holds them; rank 0's are kept."""


def staged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in main memory, each sharded as its original; no rank talks to another."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def write(
    team: Team, folder: Path, content: Content, planner: DefaultSavePlanner | None = None
) -> None:
    """Write a whole checkpoint into the empty `folder`; its files are on the disk afterwards.

    A `planner` may bring the tensors itself, one by one; those of `content` then only say what
    there is, and each gets a file of its own: torch holds all tensors of a file until it is closed.
    Raises `CroreError` on every rank when one of them cannot write.
    """
    storage = _Storage()
    writer = FileSystemWriter(
        folder, single_file_per_rank=planner is None,
        per_thread_copy_ahead=0,  # staged tensors need no stream
    )  # fmt: skip
    writer.fs = storage
    planner = planner or DefaultSavePlanner()
    plan, metadata = _plan(team, writer, planner, content.tensors)

    def save() -> tuple[list[WriteResult], dict[str, File]]:
        finished = planner.finish_plan(plan)
        results = storage.guard(lambda: writer.write_data(finished, planner).wait())
        return results, storage.files

    def finish(parts: list[tuple[list[WriteResult], dict[str, File]]]) -> None:
        assert metadata is not None
        storage.guard(lambda: writer.finish(metadata, [results for results, _ in parts]))
        files = {name: file for _, part in parts for name, file in part.items()} | storage.files
        _check_all_here(folder, files)
        manifest.write(folder, _manifest(team, content, metadata, files))

    team.reduce(save, finish)


def _plan(
    team: Team, writer: FileSystemWriter, planner: DefaultSavePlanner, tensors: dict[str, Tensor]
) -> tuple[SavePlan, Metadata | None]:
    """Return what this rank writes, and on rank 0 what all ranks write."""
    metadata: Metadata | None = None

    def local() -> SavePlan:
        planner.set_up_planner(tensors, writer.storage_meta(), team.rank == 0)
        writer.set_up_storage_writer(team.rank == 0)
        return writer.prepare_local_plan(planner.create_local_plan())

    def deal(plans: list[SavePlan]) -> list[SavePlan]:
        nonlocal metadata
        plans, metadata = planner.create_global_plan(plans)
        return writer.prepare_global_plan(plans)

    return team.exchange(local, deal), metadata


def _manifest(team: Team, content: Content, metadata: Metadata, files: dict[str, File]) -> Manifest:
    return Manifest(
        step=content.step,
        torch=torch.__version__,
        ranks=team.size,
        files=dict(sorted(files.items())),
        tensors={
            name: Kind.of(stored.size, stored.properties.dtype)
            for name, stored in sorted(metadata.state_dict_metadata.items())
            if isinstance(stored, TensorStorageMetadata)
        },
        facts=content.facts,
    )


def _check_all_here(folder: Path, files: Mapping[str, File]) -> None:
    """Raise `RankFailed` unless rank 0 sees every rank's file."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for name, file in files.items():
        if sizes.get(name) != file.size_bytes:
            raise RankFailed(f"rank 0 does not see {name}: the folder must be one all ranks share")


class _Storage(FileSystem):
    """A file system that keeps size and digest of what is written, and the first error."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self._error: OSError | None = None

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        assert mode == "wb"
        raw = _HashedFile(path, self._note)
        with io.BufferedWriter(raw, 1 << 20) as stream:
            yield stream
        self.files[Path(path).name] = raw.summary()

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        super().rename(path, new_path)
        self.files[Path(new_path).name] = self.files.pop(Path(path).name)

    def guard(self, write: Callable[[], T]) -> T:
        """Call `write`; torch wraps what a stream raises, so raise the disk's own error instead."""
        try:
            return write()
        except Exception as error:
            raise self._error or error from None

    def _note(self, error: OSError) -> None:
        self._error = self._error or error


class _HashedFile(io.FileIO):
    """A new file that hashes what reaches it."""

    def __init__(self, path: str | os.PathLike[str], note: Callable[[OSError], None]) -> None:
        self._note, self._digest, self._size_bytes = note, hashlib.sha256(), 0
        super().__init__(path, "xb")

    def write(self, data: Any) -> int:
        try:
            count = super().write(data)
        except OSError as error:
            self._note(error)
            raise
        self._digest.update(memoryview(data)[:count])
        self._size_bytes += count
        return count

    def summary(self) -> File:
        return File(size_bytes=self._size_bytes, sha256=self._digest.hexdigest())
