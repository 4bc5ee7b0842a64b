"""Joining a world: process group, device, threads; alone, under torchrun, or under Slurm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from crore.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """Who this process is among the processes of a run."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1


def membership(environment: Mapping[str, str]) -> Membership | None:
    """Return who this process is as torchrun or Slurm's srun say; None where neither does.

    Raises InputError when what they say is incomplete.
    """
    for names in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
    ):
        if names[0] not in environment or names[1] not in environment:
            continue
        numbers = [environment.get(name, "") for name in names]
        if not all(number.isdecimal() for number in numbers[:3]):
            raise InputError(
                f"{', '.join(names[:3])} must be whole numbers, not {', '.join(numbers[:3])}"
            )
        rank, ranks, local = (int(number) for number in numbers[:3])
        if ranks == 1 and names[0].startswith("SLURM"):
            return None  # an interactive shell on a node, not a world
        each = int(numbers[3]) if numbers[3].isdecimal() else ranks
        return Membership(rank=rank, ranks=ranks, local_rank=local, local_ranks=each)
    return None


def is_first() -> bool:
    """Return whether this process is rank 0, or starts all ranks itself."""
    who = membership(os.environ)
    return who is None or who.rank == 0


def join(who: Membership, device: str, *, timeout_s: float, threads: int) -> torch.device:
    """Start this process's part of a world, and return its device.

    The rendezvous is the environment's (MASTER_ADDR, MASTER_PORT). Collectives that take longer
    than `timeout_s` fail.
    """
    share = threads or max((os.cpu_count() or 1) // who.local_ranks, 1)
    if device == "cpu":
        torch.set_num_threads(share)
    else:
        torch.cuda.set_device(who.local_rank)
    here = torch.device(device, who.local_rank) if device == "cuda" else torch.device(device)
    if who.ranks > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            rank=who.rank, world_size=who.ranks, timeout=timedelta(seconds=timeout_s),
        )  # fmt: skip
    return here


def own_group(timeout_s: float) -> ProcessGroup | None:
    """Return a further gloo group of all ranks; None in a world of one."""
    if not dist.is_initialized():
        return None
    group: ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
    return group
