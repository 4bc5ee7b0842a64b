"""A job carried out on all its ranks: in this process for one, in forked ones for more."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

import torch
from tests.train.gloo import GIVE_UP_S, PRELOADED, ROOT
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented

from crore.train.job import Job
from crore.train.outcome import Outcome
from crore.train.worker import work

Tamper = Callable[[int], AbstractContextManager[None]]
"""Called with the rank; what goes on while that rank works. At the top level of its file."""


def nothing(rank: int) -> AbstractContextManager[None]:
    """Leave a rank alone."""
    del rank
    return contextlib.nullcontext()


def carry_out(job: Job, tamper: Tamper = nothing) -> Outcome:
    """Run a job to its end and return how it ended; every rank must say the same."""
    if job.split.ranks == 1:
        torch.set_num_threads(1)
        with tamper(0):
            return work(job)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        processes = started(job, Path(folder), store.port, tamper)
        try:
            _wait(processes)
            read = [Path(folder, str(rank)).read_bytes() for rank in range(job.split.ranks)]
        finally:
            for process in processes:
                process.kill()
                process.join()
    outcomes: list[Outcome] = [pickle.loads(content) for content in read]  # noqa: S301
    assert all(outcome == outcomes[0] for outcome in outcomes), outcomes
    return outcomes[0]


def started(job: Job, folder: Path, port: int, tamper: Tamper) -> list[BaseProcess]:
    """Start a job's ranks, which leave their outcomes in a folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    payload = pickle.dumps((job, tamper))
    processes: list[BaseProcess] = []
    for rank in range(job.split.ranks):
        process = context.Process(target=_rank, args=(payload, folder, rank, job.split.ranks, port))
        with mock.patch.object(sys, "path", [*sys.path, str(ROOT)]):  # finds `tests.train`
            process.start()
        processes.append(process)
    return processes


def _rank(payload: bytes, folder: Path, rank: int, ranks: int, port: int) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_USE_AGENT_STORE="True",
        GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    job, tamper = pickle.loads(payload)  # noqa: S301
    with tamper(rank):
        outcome = work(job)
    (folder / str(rank)).write_bytes(pickle.dumps(outcome))


def _wait(processes: list[BaseProcess]) -> None:
    end_s = time.monotonic() + GIVE_UP_S
    while any(process.is_alive() for process in processes):
        failed = [rank for rank, process in enumerate(processes) if process.exitcode]
        assert not failed, f"ranks {failed} failed"
        assert time.monotonic() < end_s, f"a world still runs after {GIVE_UP_S:g} s"
        multiprocessing.connection.wait([p.sentinel for p in processes if p.is_alive()], 0.1)


def ranks_of(launcher: int) -> list[int]:
    """Return the process ids of the ranks that a launcher has started, in order (Linux)."""
    servers = [pid for pid in _children(launcher) if b"forkserver" in _command(pid)]
    return sorted(rank for server in servers for rank in _children(server))


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
