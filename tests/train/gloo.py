"""Run a function on every rank of a small gloo world of this machine, and collect what it returns.

The processes are forked from a server that has imported torch once, so a world of four starts in
well under a second. A function given to `run` stands at the top level of its file.
"""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
GIVE_UP_S = 600.0
"""No world of a test needs longer, however busy the machine."""
PRELOADED = (
    "pytest",
    "hypothesis",
    "torch.distributed.checkpoint",
    "torch.distributed.device_mesh",
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
)


def run(function: Callable[..., Any], world: int, tmp_path: Path, *args: Any) -> list[Any]:
    """Call `function(*args)` on `world` ranks of one gloo group; return their results by rank.

    A rank that raises, or ends without a result, fails the test with its own traceback. Nothing
    outlives the call.
    """
    with start(function, world, tmp_path, *args) as (folder, processes):
        end_s = time.monotonic() + GIVE_UP_S
        while any(p.is_alive() for p in processes) and not _failed(folder, processes):
            assert time.monotonic() < end_s, f"{_alive(processes)} still run after {GIVE_UP_S:g} s"
            multiprocessing.connection.wait([p.sentinel for p in processes if p.is_alive()], 0.1)
        if failed := _failed(folder, processes):
            raise AssertionError("\n".join(failed))
    return [pickle.loads((folder / f"{r}.result").read_bytes()) for r in range(world)]  # noqa: S301


@contextlib.contextmanager
def start(
    function: Callable[..., Any], world: int, tmp_path: Path, *args: Any
) -> Iterator[tuple[Path, list[BaseProcess]]]:
    """Start `run`'s processes and yield their folder and themselves; kill what is left after."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    payload = pickle.dumps((function, args))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    processes: list[BaseProcess] = []
    try:
        for rank in range(world):
            processes.append(context.Process(target=_rank, args=(folder, rank, world, payload)))
            with mock.patch.object(sys, "path", [*sys.path, str(ROOT)]):  # finds `tests.train`
                processes[-1].start()
        yield folder, processes
    finally:
        for process in processes:
            process.kill()
            process.join()  # SIGKILL ends a stopped process too


def _rank(here: Path, rank: int, world: int, payload: bytes) -> None:
    """Join the group, call the function, leave its result or its traceback in a file."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank))
    os.environ.update(GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    try:
        function, args = pickle.loads(payload)  # noqa: S301
        dist.init_process_group(
            "gloo",
            init_method=f"file://{here / 'store'}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=GIVE_UP_S),
        )
        _leave(here / f"{rank}.result", pickle.dumps(function(*args)))
        dist.barrier()  # a rank that ends early would cut off what others still receive
        dist.destroy_process_group()
    except BaseException:
        _leave(here / f"{rank}.error", traceback.format_exc().encode())
        os._exit(1)  # a group half torn down can hang in its destructor


def _leave(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.rename(path)


def _failed(folder: Path, processes: list[BaseProcess]) -> list[str]:
    """Say which ranks failed, with what they left; empty while all is well.

    The first to fail is listed first: the others often fail because of it.
    """
    errors = sorted(folder.glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
    said = [f"rank {path.stem}:\n{path.read_text()}" for path in errors]
    mute = [
        f"rank {rank} ended with code {process.exitcode} and left no result"
        for rank, process in enumerate(processes)
        if process.exitcode not in (None, 0) and not (folder / f"{rank}.error").exists()
    ]
    return said + mute


def _alive(processes: list[BaseProcess]) -> str:
    return "ranks " + ", ".join(str(r) for r, p in enumerate(processes) if p.is_alive())
