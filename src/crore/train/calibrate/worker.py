"""A process that measures what it is told to, while its neighbours do the same."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from crore.train.meters import resident_bytes


class Task(NamedTuple):
    """One measurement of one setting."""

    what: str
    """Key of MEASURES."""
    of: str
    """Format, class or ZeRO stage, where there are several."""
    processes: int
    threads: int
    folder: str
    """Where the processes meet."""


BUDGET_S: Final = {"launch": 0.1, "products": 0.01, "passes": 0.02, "attention": 0.02,
                   "optimizer": 0.05, "messages": 0.0, "shard": 0.0, "steps": 0.0}  # fmt: skip
"""Of one point, at least one sample."""


def serve(rank: int, pipe: Connection) -> None:
    """Answer tasks until None arrives; an exception is an answer too.

    Ctrl-C is the parent's business: it ends its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    pipe.send((resident_bytes(), torch.__version__))
    while (task := pipe.recv()) is not None:
        try:
            pipe.send(measure(rank, task))
        except Exception as error:  # the parent raises it again
            pipe.send(error)


def measure(rank: int, task: Task) -> Any:
    """Carry out one task and return its record (a dictionary of curves for messages)."""
    import torch

    from crore.train.calibrate.clock import Clock

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(task.threads)
    clock = Clock(device=device, budget_s=BUDGET_S[task.what])
    return MEASURES[task.what](clock, rank, task)


def _compute(name: str) -> Callable[..., Any]:
    def run(clock: Any, _rank: int, task: Task) -> Any:
        from crore.train.calibrate import compute

        call = getattr(compute, f"measure_{name}")
        return call(clock, task.of) if task.of else call(clock)

    return run


def _launch(clock: Any, _rank: int, _task: Task) -> Any:
    from crore.train.calibrate.host import measure_launch

    return measure_launch(clock)


def _messages(clock: Any, rank: int, task: Task) -> Any:
    from crore.train.calibrate.messages import measure_messages

    with _together(clock.device, rank, task):
        return measure_messages(clock.device, clock.settle)


def _shard(clock: Any, rank: int, task: Task) -> Any:
    from crore.train.calibrate.host import measure_shard

    with _together(clock.device, rank, task):
        return measure_shard(clock.device, clock.settle)


def _steps(clock: Any, rank: int, task: Task) -> Any:
    from crore.train.calibrate.steps import measure_steps

    alone = task.processes == 1
    with contextlib.nullcontext() if alone else _together(clock.device, rank, task):
        return measure_steps(task.processes, task.of, clock.device)


@contextlib.contextmanager
def _together(device: str, rank: int, task: Task) -> Iterator[None]:
    """Join the processes of a task into one group."""
    import torch.distributed as dist

    Path(task.folder).mkdir(exist_ok=True)
    meeting = f"file://{task.folder}/{task.what}{task.of}-{task.processes}"
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=task.processes)
    try:
        yield
    finally:
        dist.destroy_process_group()


MEASURES: Final[dict[str, Callable[..., Any]]] = {
    **{name: _compute(name) for name in ("products", "passes", "attention", "optimizer")},
    "launch": _launch,
    "messages": _messages,
    "shard": _shard,
    "steps": _steps,
}
