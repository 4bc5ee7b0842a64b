"""`crore serve --planner` as a process, with a small sweep behind it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from tests.report.small_sweep import small_sweep

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

    def ask(self, timeout: float = 60, **asked: Any) -> httpx2.Response:
        """Ask one question."""
        return httpx2.post(f"{self.url}plan", json=asked, timeout=timeout)

    def alive(self) -> bool:
        """Return whether it still answers as it should."""
        asked = self.ask(model="llama-3.1-8b", gpu="h100-sxm", gpus="64")
        return bool(asked.json()["state"] == "fits")


@contextlib.contextmanager
def planner(*words: str, code: int = 130) -> Iterator[Planner]:
    """Run it on a free port until the block ends; it must then leave on SIGINT with the code."""
    environment = {k: v for k, v in os.environ.items() if k != "CRORE_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-m", "crore", "serve", "--planner", *words, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"the planner at (http://\S+/); Ctrl-C ends it", line)
        assert found, line
        running = Planner(found[1], process)
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    running.said = said.strip()
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    assert "xception" not in said, said
