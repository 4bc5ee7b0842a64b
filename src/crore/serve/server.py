"""`crore serve`: an engine, the front before it, and a socket."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from crore.errors import InputError
from crore.serve.requests import Limits

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

LOOPBACK_HOSTS: Final = ["localhost", "127.0.0.1"]
KEY_VARIABLE: Final = "CRORE_API_KEY"
LEAVING_S: Final = 3
"""Seconds that answers under way have when the server is stopped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Binding:
    """Where a server listens, and for whom."""

    host: str = "127.0.0.1"
    """An address of this machine, or localhost."""
    port: int = 8080
    """0: one that is free."""
    key: str = ""
    """Asked of every client; none asked where empty."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.loopback and not self.key:
            raise InputError(
                f"--host {self.host[:60]} can be reached by others: give --api-key, or "
                f"{KEY_VARIABLE} in the environment"
            )
        if self.key and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise InputError("--api-key must be printable ASCII without spaces")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError as error:
            raise InputError(
                f"--host must be an IP address of this machine or localhost, not {self.host[:60]}"
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Behind:
    """An engine with a server of its own, on loopback, that a front asks."""

    address: str
    """URL."""
    key: str = field(repr=False)
    """It asks for."""
    name: str
    """Of the model."""
    model: str = ""
    """Asked for in place of what a client names, by an engine that is particular; else empty."""


def listen(binding: Binding) -> socket.socket:
    """Return the listening socket; InputError when the port is taken or the address not here."""
    kind = socket.AF_INET6 if ":" in binding.host else socket.AF_INET
    made = socket.socket(kind, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((binding.host, binding.port))
        made.listen(1024)
    except OSError as error:
        made.close()
        raise InputError(
            f"cannot listen on {binding.host} port {binding.port}: {error.strerror}; "
            "give another --port (0 takes a free one)"
        ) from error
    return made


def url_of(listening: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    listening: socket.socket, binding: Binding, behind: Behind, ready: Callable[[], None],
    beside: Mapping[str, ASGIApp] | None = None,
) -> None:  # fmt: skip
    """Put an engine before clients until SIGINT or SIGTERM; `ready` is called once before.

    `beside` are applications below paths of their own.
    """
    from crore.serve.api import Front, application, engine_client

    front = Front(behind=behind, client=engine_client(), key=binding.key, limits=binding.limits)
    with contextlib.suppress(KeyboardInterrupt):
        answer(listening, application(front, hosts_of(binding), beside), ready)


def hosts_of(binding: Binding) -> list[str]:
    """Return the names a server answers to: on loopback only its own."""
    own = f"[{binding.host}]" if ":" in binding.host else binding.host
    return [*LOOPBACK_HOSTS, own] if binding.loopback else ["*"]


def answer(listening: socket.socket, application: Starlette, ready: Callable[[], None]) -> None:
    """Let an application answer until SIGTERM; `ready` is called once before.

    Raises KeyboardInterrupt on SIGINT, once the answers under way are given.
    """
    import logging

    import uvicorn

    from crore.serve.patience import Patient

    config = uvicorn.Config(
        application, http=Patient, ws="none", log_level="error", access_log=False,
        server_header=False, timeout_graceful_shutdown=LEAVING_S, lifespan="on",
    )  # fmt: skip
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a client that left is no warning
    ready()
    uvicorn.Server(config).run(sockets=[listening])
