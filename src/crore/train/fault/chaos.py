"""Faults on purpose: a seeded schedule of worlds that are killed, hung, slowed and corrupted."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from crore.errors import InputError, UnknownName

KINDS: Final = ("kill", "hang", "slow", "corrupt", "lighthouse")
"""What is done to a world, or to the lighthouse of an island."""
DONE: Final = {
    "kill": "is killed", "hang": "stands still", "slow": "is slowed down",
    "corrupt": "is told to flip a bit",
}  # fmt: skip
"""Kind of a world's fault -> how the log says it, behind `world N`."""
EVERY_S: Final = 30.0
"""Between two faults of a kind that is named without a number."""
SLOW: Final = 10
"""So many times slower a slowed world is."""
BEAT_S: Final = 0.1
"""Of one stop and go: no longer than a short step, so that each step is slowed."""
FLIP: Final = "flip"
"""File in a world's folder that asks its first rank to flip a bit of a weight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    at_s: float
    """After the first step."""
    kind: str
    draw: float
    """Uniform in [0, 1): which of the worlds that are there."""


def parse_chaos(text: str) -> dict[str, float]:
    """Read `kill=20,hang`: kinds of faults with the mean seconds between two of them.

    Raises InputError for a kind there is none of, and for a time that is none.
    """
    found: dict[str, float] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        kind, _, every = word.partition("=")
        if kind not in KINDS:
            raise UnknownName("fault", kind, KINDS)
        try:
            found[kind] = float(every.removesuffix("s")) if every else EVERY_S
        except ValueError:
            found[kind] = 0.0
        if not 0 < found[kind] < 1e9:
            raise InputError(f"--chaos {word[:40]}: give seconds between two faults: {kind}=20")
    return found


def faults(every_s: dict[str, float], seed: int, until_s: float) -> list[Fault]:
    """Return the faults up to a time, in order: Poisson processes, the same for the same seed."""
    found = []
    for kind, mean_s in every_s.items():
        draws = np.random.default_rng([seed, KINDS.index(kind)])
        at_s = draws.exponential(mean_s)
        while at_s < until_s:
            found.append(Fault(at_s=at_s, kind=kind, draw=float(draws.random())))
            at_s += draws.exponential(mean_s)
    return sorted(found, key=lambda fault: fault.at_s)


def send(group: int, number: signal.Signals) -> None:
    """Send a signal to all processes of a world."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def slow(group: int, stop: threading.Event) -> None:
    """Let a world run a tenth of the time, in a thread, until it is told to stop."""

    def work() -> None:
        while not stop.is_set():
            send(group, signal.SIGSTOP)
            stop.wait(BEAT_S * (SLOW - 1) / SLOW)
            send(group, signal.SIGCONT)
            stop.wait(BEAT_S / SLOW)

    threading.Thread(target=work, daemon=True, name="crore-slow").start()


def ask_flip(folder: Path) -> None:
    """Ask a world to flip a bit."""
    with contextlib.suppress(OSError):
        (folder / FLIP).touch()
