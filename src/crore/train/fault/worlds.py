"""The processes of a fleet on one machine: lighthouses and worlds, started, and started again."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crore.errors import InputError
from crore.train.fault.chaos import send, slow
from crore.train.fault.seat import Seat

RESTART_S: Final = 0.5
"""Before a world that ended starts again."""
OUTPUT: Final = "output.txt"
"""In a world's folder: what its processes printed."""


@dataclass(kw_only=True, slots=True)
class Lighthouse:
    """A lighthouse as a process of its own, at the same address for as long as it is asked for."""

    least: int
    """Members of a quorum."""
    grace_s: float
    """A quorum waits so long for members that live and do not ask."""
    host: str = "127.0.0.1"
    address: str = ""
    process: subprocess.Popen[str] | None = None
    again_s: float = 0.0
    """Of the clock when it is tried again; 0 where it came up the last time."""

    def start(self) -> None:
        """Start it, where it was before if it was; InputError when it does not come up."""
        port = self.address.rpartition(":")[2] or "0"
        self.process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", "crore.train.fault.lighthouse", port, str(self.least),
             str(self.grace_s), self.host],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        with self.process.stdout as told:
            line = told.readline().strip()
        if not line.startswith("http"):
            raise InputError(f"a lighthouse did not start on port {port} of {self.host}")
        self.address = line

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass(kw_only=True, slots=True)
class World:
    """A world as processes of its own session."""

    seat: Seat
    folder: Path
    """Of the whole run."""
    before: tuple[str, ...] = ()
    """Words before its command: where, or under what, it runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ended_s: float = 0.0
    """Of the clock when it was last seen to have ended."""
    slowed: threading.Event | None = None
    stopped: bool = False
    """Whether it was made to stand still."""

    def start(self, job: Path) -> None:
        """Start it, with the job that a file holds."""
        own = self.folder / self.seat.name
        own.mkdir(parents=True, exist_ok=True)
        seat = own / "seat.pickle"
        seat.write_bytes(pickle.dumps(self.seat))
        words = [*self.before, sys.executable, "-m", "crore.train.fault.member", str(job),
                 str(seat)]  # fmt: skip
        with (own / OUTPUT).open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env={**os.environ, **self.environment},
            )  # fmt: skip
        self.starts, self.stopped = self.starts + 1, False

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return None if self.process is None else self.process.poll()

    @property
    def frozen(self) -> bool:
        """Whether its process stands still, by the system's word."""
        if self.process is None:
            return False
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return status.rpartition(") ")[2].startswith("T")

    def ask(self) -> None:
        """Ask it to save and leave."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Have all its processes stand still."""
        if self.process is not None:
            send(self.process.pid, signal.SIGSTOP)
            self.stopped = True

    def slow(self) -> None:
        """Have it run a tenth of the time."""
        if self.process is not None and self.slowed is None:
            self.slowed = threading.Event()
            slow(self.process.pid, self.slowed)

    def kill(self) -> None:
        """End all its processes at once."""
        if self.process is None:
            return
        send(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.well()

    def well(self) -> None:
        """End its slowness."""
        if self.slowed is not None:
            self.slowed.set()
            self.slowed = None


def now_s() -> float:
    """Return the clock of this room."""
    return time.monotonic()
