"""An engine with a server of its own, vLLM's or transformers': a process behind crore's front."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from crore.errors import InputError
from crore.serve.server import Behind

START_S: Final = 1800.0
"""Seconds until an engine answers: a large model is read, and kernels may be compiled."""
LEAVING_S: Final = 10.0
"""Seconds after SIGTERM that it has to end."""
LOOK_S: Final = 0.2
PORTS: Final = range(20_000, 32_000)
"""Of engines: below those that a system gives to whoever asks for any, of which another program
may be given the same one while the engine loads."""
TERMINATED: Final = 128 + signal.SIGTERM
"""Exit code of a program that was asked to end, as shells report it."""
OFFLINE: Final = {"HF_HUB_OFFLINE": "1"}
"""The model is a folder here: nothing is looked up elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Other:
    """An engine that others keep."""

    needs: tuple[str, ...]
    """Packages it is imported from."""
    install: str
    command: tuple[str, ...]
    """What the interpreter runs; {folder}, {name} and {port} are put in."""
    key: str
    """Variable of the environment by which it learns its key; empty where it asks for none."""


OTHERS: Final[Mapping[str, Other]] = {
    "vllm": Other(
        needs=("vllm",), install="pip install vllm", key="VLLM_API_KEY",
        command=("-m", "vllm.entrypoints.cli.main", "serve", "{folder}", "--host", "127.0.0.1",
                 "--port", "{port}", "--served-model-name", "{name}"),
    ),
    "transformers": Other(
        needs=("transformers", "fastapi"), install="pip install 'transformers[serving]>=5'", key="",
        command=("-m", "transformers.cli.transformers", "serve", "{folder}", "--host", "127.0.0.1",
                 "--port", "{port}"),
    ),
}  # fmt: skip
"""By the name that `--engine` takes. Each serves a Hugging Face folder."""


def check_installed(engine: str) -> None:
    """Raise InputError for an engine that is not here, with the line that installs it."""
    other = OTHERS[engine]
    if any(find_spec(package) is None for package in other.needs):
        raise InputError(f"--engine {engine} needs {engine}'s server: {other.install}")


@contextlib.contextmanager
def running(engine: str, folder: Path, name: str) -> Iterator[Behind]:
    """Give an engine that serves the folder, once it answers; it ends with the block.

    SIGTERM, too, leaves the block: by SystemExit. Raises InputError, with the engine's last words,
    when it ends before it answers.
    """
    check_installed(engine)
    other, key = OTHERS[engine], secrets.token_urlsafe(24)
    port = free_port()
    given = {"folder": str(folder.resolve()), "name": name, "port": str(port)}
    words = [word.format_map(given) for word in other.command]
    environment = {**os.environ, **OFFLINE} | ({other.key: key} if other.key else {})
    with tempfile.TemporaryFile() as said, _Leaving().heard() as leaving:
        # A session of its own: Ctrl-C is for the front, which ends what it began.
        process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip
        behind = Behind(
            address=f"http://127.0.0.1:{port}", key=key, name=name,
            # The one takes the name that it was given, the other that of the folder.
            model=name if "{name}" in other.command else given["folder"],
        )  # fmt: skip
        try:
            leaving.arm()
            _wait(engine, process, behind, said)
            yield behind
        finally:
            _end(process)


class _Leaving:
    """SIGTERM as SystemExit, once there is a process to end; heard before, it waits for that."""

    def __init__(self) -> None:
        self._armed = self._asked = False

    @contextlib.contextmanager
    def heard(self) -> Iterator[_Leaving]:
        """Hear SIGTERM inside the block; Python lets only the main thread hear signals."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield self
        finally:
            signal.signal(signal.SIGTERM, before)

    def arm(self) -> None:
        """Leave on SIGTERM from here on; at once where one has come."""
        self._armed = True
        if self._asked:
            self._hear()

    def _hear(self, *_: object) -> None:
        self._asked = True
        if self._armed:
            self._armed = False  # a second one must not stop the ending
            raise SystemExit(TERMINATED)


def free_port() -> int:
    """Return a port of PORTS that nobody listens on."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as made, contextlib.suppress(OSError):  # taken: another
            made.bind(("127.0.0.1", port))
            return port


def _wait(engine: str, process: subprocess.Popen[bytes], behind: Behind, said: IO[bytes]) -> None:
    """Return once the engine says that it is well."""
    import httpx2

    end = time.monotonic() + START_S
    with httpx2.Client(trust_env=False, timeout=10.0) as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                raise InputError(f"{engine} ended before it served: {_last_words(said)}")
            with contextlib.suppress(httpx2.HTTPError):
                if client.get(f"{behind.address}/health").status_code == 200:
                    return
            time.sleep(LOOK_S)
    raise InputError(f"{engine} did not answer within {START_S:,.0f} s")


def _last_words(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").split("\n")
    return next((line.strip()[-160:] for line in reversed(lines) if line.strip()), "no word")


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(LEAVING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
