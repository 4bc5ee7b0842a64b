"""Joining a world: process group, device, threads; alone, under torchrun, or under Slurm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch.distributed import (  # type: ignore[attr-defined]  # documented, not in its __all__
    PrefixStore,
    ProcessGroup,
    Store,
    TCPStore,
)

from crore.errors import InputError, UnknownName

DEVICES: Final = ("cpu", "cuda")
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE")


@dataclass(frozen=True, kw_only=True, slots=True)
class Membership:
    """Who this process is among the processes of a run."""

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1


def membership(environment: Mapping[str, str]) -> Membership | None:
    """Return who this process is as torchrun or Slurm's srun say; None where neither does.

    Raises InputError when what they say is incomplete or makes no sense.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _member(environment, _TORCHRUN)
    # srun alone sets the step's count: a batch script or a shell on a node is no rank.
    if _number(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _member(environment, _SRUN)
    return None


def _member(environment: Mapping[str, str], names: tuple[str, str, str, str]) -> Membership:
    """Read rank, ranks, place on the node; ranks of the node (`4(x2)` in Slurm) may be missing."""
    needed = (*names[:3], "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        raise InputError(
            f"{names[0]} says that this is a rank of a world, but {', '.join(missing)} is not set: "
            "start it by torchrun, or by srun with MASTER_ADDR and MASTER_PORT, or unset it"
        )
    numbers = [_number(environment[name]) for name in (*names[:3], "MASTER_PORT")]
    rank, ranks, local, port = numbers
    each = _number(environment.get(names[3], "").partition("(")[0].partition(",")[0])
    if min(numbers) < 0 or rank >= ranks or port > 65535:
        shown = ", ".join(f"{name}={environment[name][:20]}" for name in needed)
        raise InputError(f"{shown} describe no rank of a world: start it by torchrun or srun")
    return Membership(
        rank=rank, ranks=ranks, local_rank=local, local_ranks=each if each > 0 else ranks
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def is_first() -> bool:
    """Return whether this process is rank 0, or starts all ranks itself."""
    who = membership(os.environ)
    return who is None or who.rank == 0


def restarted() -> bool:
    """Return whether a launcher or batch system has started this very command before."""
    counts = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(os.environ.get(name, "0") != "0" for name in counts)


def speaks() -> bool:
    """Return whether this process says what is wrong: one on each machine does."""
    who = membership(os.environ)
    return who is None or who.local_rank == 0


def check_device(name: str) -> None:
    """Raise InputError for a device that is not known, or not here; "" is any."""
    if name not in ("", *DEVICES):
        raise UnknownName("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device cuda: torch sees no CUDA card here; leave it out to train on a CPU"
        )


def join(who: Membership, device: str, *, timeout_s: float, threads: int) -> torch.device:
    """Start this process's part of a world, and return its device.

    The rendezvous is the environment's (MASTER_ADDR, MASTER_PORT). Collectives that take longer
    than `timeout_s` fail. Raises InputError when the others are not found.
    """
    share = threads or max((os.cpu_count() or 1) // who.local_ranks, 1)
    if device == "cpu":
        torch.set_num_threads(share)
    else:
        torch.cuda.set_device(who.local_rank)
    here = torch.device(device, who.local_rank) if device == "cuda" else torch.device(device)
    if who.ranks > 1:
        _meet(who, "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout_s)
    return here


def _meet(who: Membership, backend: str, timeout_s: float) -> None:
    timeout = timedelta(seconds=timeout_s)
    try:
        dist.init_process_group(
            backend, rank=who.rank, world_size=who.ranks, timeout=timeout, store=_store(timeout)
        )
    except dist.DistError as error:
        where = f"{os.environ['MASTER_ADDR'][:60]}:{os.environ['MASTER_PORT']}"
        raise InputError(
            f"rank {who.rank} cannot meet the {who.ranks} ranks at {where} "
            f"({str(error).splitlines()[0][:80]}): check MASTER_ADDR, MASTER_PORT and the others"
        ) from error


def _store(timeout: timedelta) -> Store | None:
    """Return this attempt's part of a store that a launcher keeps over restarts; None without one.

    Else ranks that start again find the addresses of ranks that are dead (torch 2.13 and before:
    `_create_c10d_store` takes the agent's store as it is).
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)
    return PrefixStore(f"crore/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def own_group(timeout_s: float) -> ProcessGroup | None:
    """Return a further gloo group of all ranks; None in a world of one."""
    if not dist.is_initialized():
        return None
    group: ProcessGroup = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
    return group
