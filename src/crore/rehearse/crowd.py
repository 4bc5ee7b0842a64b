"""Many clients of one server on this machine: what a phase costs them, and costs the server.

The server is a process of its own, so that its CPU and memory are its own; the clients are threads
of a few processes, each with its own socket.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final, Self

from crore.errors import InputError
from crore.train.meters import resident_bytes

PROCESSES: Final = 4
MOST: Final = 16_000
"""Clients of one server: each is a socket of its, of which a process commonly may have 20,000."""
GIVE_UP_S: Final = 300.0
"""No phase takes longer."""

Serve = Callable[..., tuple[str, object]]
"""Starts a server; returns its address, and what must be kept for it to live."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Client:
    """One client, as what it does sees it."""

    number: int
    clients: int
    """All of them."""
    address: str
    """Of the server."""
    link: Any = None
    """What it returned when it joined."""


Phase = Callable[[Client], Any]
"""What one client does; top-level functions, for it is told to another process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseCost:
    """What it cost that all clients did one thing."""

    wall_s: float
    """Until the last had done it."""
    server_cpu_s: float
    server_bytes: float
    """Peak of the server's physical memory so far, above that of the same process without a
    client."""
    results: tuple[Any, ...]
    """What the clients returned, in no order."""


class Crowd:
    """A server and its clients; a context manager that ends what it started."""

    def __init__(
        self, serve: Serve, join: Phase, clients: int, *given: Any, processes: int = PROCESSES
    ) -> None:
        """Start the server with what it is `given`, and processes for the clients, not yet joined.

        Raises InputError for more clients than a process has sockets.
        """
        if not 1 <= clients <= MOST:
            raise InputError(f"a server here takes 1 to {MOST:,} clients, not {clients:,}")
        self.clients, self._context = clients, multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "torch.distributed"])
        self._started: list[Any] = []
        self._server = self._start(_serve, serve, given)
        self.address = str(self._answer(self._server))
        parts = [range(k, clients, processes) for k in range(min(processes, clients))]
        self._parts = [self._start(_crowd, join, part, clients, self.address) for part in parts]
        for part in self._parts:
            self._answer(part)
        self._alone_bytes = self._asked()[1]

    def run(self, phase: Phase | None, *, without: Collection[int] = ()) -> PhaseCost:
        """Have every client do something, all at once; None is to join.

        A client that is left out does nothing. Raises what a client raised.
        """
        before_s, began_s = self._asked()[0], time.monotonic()
        for part in self._parts:
            self._tell(part, (phase, tuple(without)))
        results = [one for part in self._parts for one in self._answer(part)]
        wall_s = time.monotonic() - began_s
        cpu_s, peak_bytes = self._asked()
        return PhaseCost(
            wall_s=wall_s, server_cpu_s=cpu_s - before_s,
            server_bytes=peak_bytes - self._alone_bytes, results=tuple(results),
        )  # fmt: skip

    def repeat(self, phase: Phase, every_s: float, *, without: Collection[int] = ()) -> None:
        """Have every client do something again and again beside its phases, until told anew."""
        for part in self._parts:
            self._tell(part, (phase, tuple(without), every_s))
        for part in self._parts:
            self._answer(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        where: TracebackType | None,
    ) -> None:  # fmt: skip
        for process in reversed(self._started):
            process.kill()
            process.join()

    def _start(self, target: Callable[..., None], *args: Any) -> Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=target, args=(theirs, *args), daemon=True)
        self._started.append(process)
        process.start()
        theirs.close()
        return ours

    @staticmethod
    def _tell(part: Connection, what: object) -> None:
        with suppress(ConnectionError):  # its answer is missed next
            part.send(what)

    def _answer(self, part: Connection) -> Any:
        try:
            if not part.poll(GIVE_UP_S):
                raise TimeoutError(f"no answer in {GIVE_UP_S:g} s")
            answer = part.recv()
        except (EOFError, ConnectionError) as error:
            self.__exit__(None, None, None)
            raise RuntimeError("the server, or a process of its clients, has ended") from error
        except BaseException:
            self.__exit__(None, None, None)
            raise
        if isinstance(answer, Exception):
            self.__exit__(None, None, None)
            raise answer
        return answer

    def _asked(self) -> tuple[float, float]:
        self._tell(self._server, None)
        cpu_s, peak_bytes = self._answer(self._server)
        return float(cpu_s), float(peak_bytes)


def _serve(pipe: Connection, serve: Serve, given: tuple[Any, ...]) -> None:
    """Serve, and say on request what it has cost, until the pipe closes."""
    with suppress(EOFError, KeyboardInterrupt):
        address, alive = serve(*given)
        pipe.send(address)
        while alive is not None:
            pipe.recv()
            pipe.send((time.process_time(), resident_bytes()))


def _crowd(pipe: Connection, join: Phase, part: range, clients: int, address: str) -> None:
    """Be some of the clients: do as told until the pipe closes."""
    who = {n: Client(number=n, clients=clients, address=address) for n in part}
    stop = threading.Event()
    pipe.send(None)
    with suppress(EOFError, KeyboardInterrupt), ThreadPoolExecutor(len(part)) as pool:
        while True:
            phase, without, *every_s = pipe.recv()
            awake = [client for number, client in who.items() if number not in without]
            if every_s:
                stop.set()
                stop = threading.Event()
                again = (phase, awake, every_s[0], stop)
                threading.Thread(target=_again, args=again, daemon=True).start()
                pipe.send(())
                continue
            try:
                done = list(pool.map(phase or join, awake))
            except Exception as error:  # raised where the phase was asked for
                pipe.send(RuntimeError(f"{type(error).__name__}: {error}"[:240]))
                continue
            if phase is None:
                who |= {
                    c.number: replace(c, link=link) for c, link in zip(awake, done, strict=True)
                }
            pipe.send(() if phase is None else done)


def _again(act: Phase, who: list[Client], every_s: float, stop: threading.Event) -> None:
    """Let each act in turn, and all once in `every_s`, as far as there is time."""
    while not stop.is_set():
        began_s = time.monotonic()
        for client in who:
            if stop.is_set():
                return
            act(client)
        stop.wait(max(every_s - (time.monotonic() - began_s), 0.0))
