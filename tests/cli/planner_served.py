"""`crore serve --planner` as a process, with a small sweep behind it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from tests.report.small_sweep import small_sweep
from tests.serve.served import GIVE_UP_S, serving

from crore.io import write_json
from crore.report.sweeping import SWEEP_VERSION


def write_sweep(folder: Path) -> Path:
    """Write the small sweep to a file."""
    file = folder / "sweep.json"
    write_json(file, "sweep", SWEEP_VERSION, small_sweep())
    return file


class Planner:
    """A planner that runs."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url, self.process = url, process
        self.said = ""
        """On stderr, once it has left."""

    def ask(self, **asked: Any) -> httpx2.Response:
        """Ask one question."""
        return httpx2.post(f"{self.url}plan", json=asked, timeout=GIVE_UP_S)

    def alive(self) -> bool:
        """Return whether it still answers as it should."""
        asked = self.ask(model="llama-3.1-8b", gpu="h100-sxm", gpus="64")
        return bool(asked.json()["state"] == "fits")


@contextlib.contextmanager
def planner(*words: str, code: int = 130) -> Iterator[Planner]:
    """Run it on a free port until the block ends; it must then leave on SIGINT with the code."""
    line = r"the planner at (http://\S+/); Ctrl-C ends it"
    with serving("--planner", *words, line=line, code=code) as it:
        running = Planner(it.url, it.process)
        yield running
    running.said = it.said
