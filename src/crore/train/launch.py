"""All ranks of one machine, on torch's elastic agent: signals passed on, lost ranks started again.

The agent's four methods for extension (`_start_workers`, …) are part of its documented interface.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Final

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousParameters, registry

from crore.errors import InputError
from crore.train.job import Job
from crore.train.log import append
from crore.train.outcome import RUN_ID, Outcome, how_lost
from crore.train.records import Event
from crore.train.signals import AGAIN_S, ASKING
from crore.train.worker import work

RENDEZVOUS_S: Final = 60
"""Ranks of one machine find each other within this."""
START: Final = "forkserver"
"""Ranks are forked from a server that has imported torch once, so that they start fast."""
LOOK_S: Final = 0.1
"""Between two looks at the ranks."""


def launch(job: Job, *, port: int, restarts: int) -> Outcome:
    """Run a job's ranks to their end and return how the run ended.

    When one dies, all are started again from the last checkpoint, at most `restarts` times.
    """
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a lost rank is told in our own words
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    multiprocessing.get_context(START).set_forkserver_preload([__name__])
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGHUP,SIGQUIT"
    with tempfile.TemporaryDirectory(prefix="crore-") as logs:
        agent = Agent(job, port=port, restarts=restarts, logs=logs)
        try:
            with _signals(agent.ask):
                result = agent.run()
        except SignalException as told:
            return Outcome(
                reason="signal", exit_code=128 + told.sigval,
                message=f"ended by {signal.Signals(told.sigval).name}",
            )  # fmt: skip
        finally:
            agent.rendezvous.shutdown()
    if result.is_failed():
        message = f"{agent.lost}; gave up after {restarts} restarts: the same command goes on"
        return Outcome(reason="failed", message=message, exit_code=1)
    return _together(result.return_values, agent.asked)


def _together(outcomes: Mapping[int, Outcome], asked: signal.Signals | None) -> Outcome:
    """Return how a run ended, as its ranks saw it: the first that failed, or rank 0."""
    failed = [outcomes[rank] for rank in sorted(outcomes) if outcomes[rank].exit_code]
    outcome = failed[0] if failed else outcomes[0]
    if outcome.reason != "signal" or asked is None:
        return outcome
    return Outcome.asked(asked)


def one_rank(job: Job) -> Outcome:
    """Run a job on this rank; when the launcher is gone, leave in order and end.

    The server that ranks are forked from outlives the launcher, so nobody else would end them.
    """
    orphaned, launcher = threading.Event(), multiprocessing.parent_process()
    assert launcher is not None

    def watch() -> None:
        launcher.join()
        orphaned.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="crore-launcher").start()
    outcome = work(job)
    if orphaned.is_set():
        os._exit(outcome.exit_code)
    return outcome


class Agent(LocalElasticAgent):
    """Starts the ranks, passes on that they are asked to end, and says which one was lost."""

    def __init__(self, job: Job, *, port: int, restarts: int, logs: str) -> None:
        self.rendezvous = registry.get_rendezvous_handler(
            RendezvousParameters(
                backend="c10d", endpoint=f"127.0.0.1:{port}", run_id=f"{RUN_ID}{os.getpid()}",
                min_nodes=1, max_nodes=1, local_addr="127.0.0.1", timeout=RENDEZVOUS_S,
            )
        )  # fmt: skip
        super().__init__(
            spec=WorkerSpec(
                role="train", local_world_size=job.split.ranks, entrypoint=one_rank, args=(job,),
                rdzv_handler=self.rendezvous, max_restarts=restarts, monitor_interval=LOOK_S,
                local_addr="127.0.0.1",
            ),
            logs_specs=DefaultLogsSpecs(log_dir=logs), start_method=START,
        )  # fmt: skip
        self.job, self.restarts = job, restarts
        self.asked: signal.Signals | None = None
        """The first signal that asked the run to end."""
        self.lost = ""
        """Which rank was lost last, and how."""
        self._asked_s, self._told = 0.0, False
        self._ranks: list[BaseProcess] = []

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Have the ranks leave; a second Ctrl-C kills them."""
        del frame
        now_s = time.monotonic()
        if self.asked is None:
            self.asked, self._asked_s = signal.Signals(number), now_s
        elif number == signal.SIGINT and now_s - self._asked_s > AGAIN_S:
            self._send(signal.SIGKILL)
            raise KeyboardInterrupt

    def _send(self, number: signal.Signals) -> None:
        for rank in self._ranks:
            if rank.pid is not None and rank.is_alive():
                os.kill(rank.pid, number)

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        started: dict[int, Any] = super()._start_workers(worker_group)
        alive = {process.pid: process for process in multiprocessing.active_children()}
        self._ranks, self._told = [alive[started[n]] for n in sorted(started)], False
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self.asked is not None and not self._told:
            self._told = True
            self._send(signal.SIGTERM)
        result: RunResult = super()._monitor_workers(worker_group)
        if result.is_failed():
            self._tell(result.failures)
        return result

    def _tell(self, failures: Mapping[int, ProcessFailure]) -> None:
        """Say which rank was lost and what comes now, on stderr and in the log."""
        rank, failure = min(failures.items())
        codes = [process.exitcode or 0 for process in self._ranks]
        self.lost = how_lost(rank, codes, failure.message)
        if not self._remaining_restarts:
            return
        number = self.restarts - self._remaining_restarts + 1
        line = (
            f"{self.lost}: all ranks start again from the last checkpoint (restart {number} of "
            f"{self.restarts})"
        )
        print(f"crore: {line}", file=sys.stderr, flush=True)
        with contextlib.suppress(InputError):  # a full disk: it was said on the screen
            append(self.job.log, lambda step: Event(step=step, what="lost rank", message=line))


@contextlib.contextmanager
def _signals(ask: Any) -> Iterator[None]:
    """Have `ask` hear SIGTERM and Ctrl-C, and ranks that are just being born hear nothing.

    Processes inherit what the thread that starts them blocks; a rank stops blocking when it is
    ready to leave in order. Another thread of this process lets the signals in meanwhile.
    """
    stop = threading.Event()
    threading.Thread(target=stop.wait, daemon=True, name="crore-signals").start()
    before = {number: signal.signal(number, ask) for number in ASKING}
    signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.set()
