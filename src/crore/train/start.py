"""Starting a run's ranks on this machine, or taking part in a world that is there already."""

from __future__ import annotations

import os
import socket
from typing import Final

import torch

from crore.errors import InputError
from crore.train.job import Job
from crore.train.launch import launch
from crore.train.outcome import Outcome
from crore.train.worker import check_world, work
from crore.train.world import membership

RESTARTS: Final = 3
"""How often ranks are started again after one of them died, before the run gives up."""
RANKS_PER_CORE: Final = 4


def start(job: Job, *, port: int = 0, restarts: int = RESTARTS) -> Outcome:
    """Run a job to its end and return how it ended.

    Inside a world of torchrun or Slurm this process is one of its ranks; else all ranks are
    started here, and started again from the last checkpoint when one dies. See `check_start`.
    """
    if membership(os.environ) is not None or job.split.ranks == 1:
        return work(job)
    return launch(job, port=port, restarts=restarts)


def check_start(job: Job, port: int) -> None:
    """Raise InputError for more ranks than the world or machine has, and for a port in use."""
    who = membership(os.environ)
    if who is None:
        check_room(job)
        if port and job.split.ranks > 1:
            _check_port(port)
    else:
        check_world(job, who)


def check_room(job: Job, *, worlds: int = 1) -> None:
    """Raise InputError where a machine has fewer cards, or far fewer cores, than the plan ranks."""
    ranks = job.split.ranks * worlds
    if job.device == "cuda":
        have, of_what = torch.cuda.device_count(), "GPUs"
    else:
        have, of_what = (
            RANKS_PER_CORE * (os.cpu_count() or 1),
            f"processes ({RANKS_PER_CORE} a core)",
        )
    if ranks > have:
        how = "start it under torchrun or srun on enough nodes"
        if worlds > 1:
            how = f"crore launch writes the files of its {worlds:,} worlds"
        raise InputError(
            f"the plan is for {ranks:,} ranks and this machine runs {have} {of_what}: {how}, or "
            f"plan smaller with --gpus {have}"
        )


def _check_port(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(
                f"port {port} of 127.0.0.1 cannot be used ({error.strerror}): give another with "
                "--port, or leave it out for a free one"
            ) from error
