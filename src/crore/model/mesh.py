"""A world of ranks as device meshes, by PyTorch's axis names.

Plain weights live on (pp, dp_replicate, fsdp, tp) where fsdp is dp_shard x cp; experts on
(pp, dp_replicate, efsdp, ep), which cuts the same ranks another way; cp has groups of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from crore.model.split import Split, needs_wrapping


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The ranks a split runs on, as seen from one of them; passed around, never global."""

    split: Split
    rank: int
    device: torch.device
    dense: DeviceMesh | None
    """None in a world of one rank without a process group."""
    sparse: DeviceMesh | None
    """None for a model without experts."""
    context: DeviceMesh | None
    tied: ProcessGroup | None = None
    """First and last pipeline rank, where they hold copies of one table."""

    @property
    def pp_rank(self) -> int:
        """Place in the pipeline."""
        return self._place("pp")

    @property
    def tp_rank(self) -> int:
        """Place among tensor-parallel ranks."""
        return self._place("tp")

    @property
    def cp_rank(self) -> int:
        """Place among context-parallel ranks."""
        return 0 if self.context is None else int(self.context.get_local_rank("cp"))

    @property
    def dp_rank(self) -> int:
        """Place among the ranks that are given different sequences."""
        if self.dense is None:
            return 0
        inside = int(self.dense.get_local_rank("fsdp")) // self.split.cp
        return int(self.dense.get_local_rank("dp_replicate")) * self.split.dp_shard + inside

    def group(self, axis: str) -> ProcessGroup | None:
        """Return the group of an axis; None where it has one rank."""
        mesh = self.context if axis == "cp" else self.dense
        if mesh is None or mesh[axis].size() == 1:
            return None
        return mesh.get_group(axis)

    def _place(self, axis: str) -> int:
        return 0 if self.dense is None else int(self.dense.get_local_rank(axis))


def make_world(
    split: Split, device: torch.device, *, experts: bool = False, tied: bool = False
) -> World:
    """Return the meshes of a split over the default process group, which has `split.ranks` ranks.

    Every rank must call it, in the same order as its other group creations. One rank without a
    group has no meshes; where its products run in another format than its weights, which is FSDP's
    business, it starts a default group of its own.
    """
    if not dist.is_initialized():
        if not any(needs_wrapping(split, experts=experts)):
            return World(split=split, rank=0, device=device, dense=None, sparse=None, context=None)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store = dist.HashStore()  # type: ignore[attr-defined] # public, but not listed
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    assert dist.get_world_size() == split.ranks, (dist.get_world_size(), split.ranks)
    kind, replicas = device.type, split.dp_replicate
    dense = init_device_mesh(
        kind, (split.pp, replicas, split.fsdp, split.tp),
        mesh_dim_names=("pp", "dp_replicate", "fsdp", "tp"),
    )  # fmt: skip
    sparse = None
    if experts:
        sparse = init_device_mesh(
            kind, (split.pp, replicas, split.expert_fsdp, split.ep),
            mesh_dim_names=("pp", "dp_replicate", "efsdp", "ep"),
        )  # fmt: skip
    context = None
    if split.cp > 1:
        context = init_device_mesh(
            kind, (split.ranks // split.cp // split.tp, split.cp, split.tp),
            mesh_dim_names=("outside", "cp", "inside"),
        )  # fmt: skip
    return World(
        split=split, rank=dist.get_rank(), device=device, dense=dense, sparse=sparse,
        context=context, tied=_tied_group(dense, split) if tied and split.pp > 1 else None,
    )  # fmt: skip


def _tied_group(dense: DeviceMesh, split: Split) -> ProcessGroup | None:
    """Return the group of the first and last pipeline rank in this rank's column, if it is one."""
    place = int(dense.get_local_rank("pp"))
    if place not in (0, split.pp - 1):
        return None
    column = dist.get_process_group_ranks(dense.get_group("pp"))
    group: ProcessGroup = dist.new_group([column[0], column[-1]], use_local_synchronization=True)
    return group
