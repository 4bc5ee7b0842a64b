"""`crore serve` as a process, and what is asked of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx2

HELLO = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
GIVE_UP_S = 120.0
"""No answer takes longer, however busy the machine."""


def get(url: str, **more) -> httpx2.Response:
    """Ask for a page; the library itself would wait five seconds."""
    return httpx2.get(url, timeout=GIVE_UP_S, **more)


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    url: str
    process: subprocess.Popen[str]

    def post(self, path: str = CHAT, key: str = "right", **request) -> httpx2.Response:
        """Send one request with a key."""
        headers = {"authorization": f"Bearer {key}", **request.pop("headers", {})}
        return httpx2.post(self.url + path, headers=headers, timeout=GIVE_UP_S, **request)

    def answers(self) -> bool:
        """Return whether it still answers as it should."""
        return self.post(json={"messages": HELLO, "max_tokens": 2}).status_code == 200


class Running:
    """A server of this machine, and what it said on stderr once it has left."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url, self.process, self.said = url, process, ""


@contextlib.contextmanager
def serving(*words: str, line: str, code: int) -> Iterator[Running]:
    """Run `crore serve` on a free port until the block ends; it must leave on SIGINT with `code`.

    `line` is the pattern that its first line must hold, the address its first group.
    """
    environment = {k: v for k, v in os.environ.items() if k != "CRORE_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-m", "crore", "serve", *words, "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        found = re.search(line, first)
        assert found, first
        running = Running(found[1], process)
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=GIVE_UP_S)
    running.said = said.strip()
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    assert "xception" not in said, said


@contextlib.contextmanager
def served(*words: str) -> Iterator[Served]:
    """Run `crore serve` on a free port until the block ends; it must then leave on SIGINT."""
    with serving(*words, line=r"(http://127\.0\.0\.1:\d+)", code=0) as it:
        yield Served(url=it.url, process=it.process)
