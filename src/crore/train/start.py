"""Starting a run's ranks on this machine, or taking part in a world that is there already."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import Final

import torch

from crore.errors import InputError
from crore.train.hang import EXIT_CODE
from crore.train.job import Job
from crore.train.worker import Outcome, work
from crore.train.world import membership

RESTARTS: Final = 3
"""How often ranks are started again after one of them died, before the run gives up."""
RANKS_PER_CORE: Final = 4


def start(job: Job, *, port: int = 0, restarts: int = RESTARTS) -> Outcome:
    """Run a job to its end and return how it ended.

    Inside a world of torchrun or Slurm this process is one of its ranks; else all ranks are
    started here, and started again from the last checkpoint when one dies. Raises InputError for
    more ranks than this machine has room for, and for a port in use.
    """
    if membership(os.environ) is not None:
        return work(job)
    check_room(job)
    if job.split.ranks == 1:
        return work(job)
    if port:
        _check_port(port)
    return _launch(job, port, restarts)


def check_room(job: Job) -> None:
    """Raise InputError where a machine has fewer cards, or far fewer cores, than the plan ranks."""
    ranks = job.split.ranks
    if job.device == "cuda":
        have, of_what = torch.cuda.device_count(), "GPUs"
    else:
        have, of_what = (
            RANKS_PER_CORE * (os.cpu_count() or 1),
            f"processes ({RANKS_PER_CORE} a core)",
        )
    if ranks > have:
        raise InputError(
            f"the plan is for {ranks:,} ranks and this machine runs {have} {of_what}: start it "
            f"under torchrun or srun on enough nodes, or plan smaller with --gpus {have}"
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


def _launch(job: Job, port: int, restarts: int) -> Outcome:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=job.split.ranks, run_id=f"crore-{os.getpid()}",
        rdzv_backend="c10d", rdzv_endpoint=f"127.0.0.1:{port}", max_restarts=restarts,
        monitor_interval=0.1, start_method="spawn", local_addr="127.0.0.1",
        rdzv_configs={"timeout": 60},
    )  # fmt: skip
    with _one_signal():
        try:
            outcomes: dict[int, Outcome] = elastic_launch(config, work)(job)
        except SignalException as told:
            name = signal.Signals(told.sigval).name
            return Outcome(reason="signal", message=f"asked to end by {name}", exit_code=0)
        except ChildFailedError as error:
            return _gave_up(error, restarts)
    return outcomes[0]


def _gave_up(error: Exception, restarts: int) -> Outcome:
    failures = getattr(error, "failures", {})
    first = min(failures.values(), key=lambda f: f.timestamp, default=None)
    if first is None:
        return Outcome(reason="failed", message=str(error)[:200], exit_code=1)
    code = first.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    if code == EXIT_CODE:
        how = "was ended because a rank hung"
    message = str(getattr(first, "message", "") or "")
    why = message.strip().splitlines()[-1][:120] if message and code >= 0 else ""
    return Outcome(
        reason="failed", exit_code=1,
        message=f"rank {getattr(error, 'failures', {}) and min(failures)} {how}"
        f"{': ' + why if why else ''}; gave up after {restarts} restarts",
    )  # fmt: skip


@contextlib.contextmanager
def _one_signal() -> Iterator[None]:
    """Turn Ctrl-C into SIGTERM for the ranks, once: they would get it from the terminal as well."""
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGTERM"

    def once(number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
