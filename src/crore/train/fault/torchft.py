"""What crore needs of torchft 0.2, its private parts included, in one place."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from crore.errors import InputError

HEARTBEAT_S: Final = 0.1
DEAD_AFTER_S: Final = 2.0
"""A world that has not been heard for so long is no member of the next quorum."""
TICK_S: Final = 0.05
CONNECT_S: Final = 10.0
AGAIN_S: Final = 0.5
"""Between two tries at a lighthouse that does not answer; without them it is one try."""
FORM_S: Final = 8.0
"""Members find each other within this, or one of them has died meanwhile and they meet again."""
_LOGGERS: Final = ("torchft", "torchft.manager", "torchft_quorums", "torchft_commits",
                   "torchft_errors")  # fmt: skip


def module(name: str) -> Any:
    """Return a module of torchft; raises InputError without it."""
    os.environ.setdefault("RUST_LOG", "error")  # else it writes every quorum out, to every member
    try:
        found = importlib.import_module(name)
    except ImportError as error:
        raise InputError("worlds that outlive each other need torchft: pip install 'crore[ft]'") \
            from error  # fmt: skip
    for logger in _LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    return found


def own_host(lighthouse: str) -> str:
    """Return this machine's address on the way to a lighthouse."""
    where = urlsplit(lighthouse)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((where.hostname, where.port))  # sends nothing
        except OSError as error:
            raise InputError(f"no way to the lighthouse {lighthouse}: {error.strerror}") from error
        return str(probe.getsockname()[0])


def lighthouse(
    *, port: int, host: str, least: int, grace_s: float, dead_after_s: float = DEAD_AFTER_S
) -> Any:
    """Start a lighthouse in this process; it ends with it.

    A quorum needs `least` members, and waits `grace_s` for those that live and do not ask.
    """
    return _native().LighthouseServer(
        bind=f"{host}:{port}", min_replicas=least, join_timeout_ms=round(1000 * grace_s),
        quorum_tick_ms=round(1000 * TICK_S), heartbeat_timeout_ms=round(1000 * dead_after_s),
    )  # fmt: skip


def _native() -> Any:
    """Return torchft's compiled part alone: a lighthouse needs no torch, and starts at once."""
    os.environ.setdefault("RUST_LOG", "error")
    package = importlib.util.find_spec("torchft")
    folder = Path((package.origin if package else None) or "nowhere").parent
    found = next(iter(sorted(folder.glob("_torchft*.so"))), None)
    spec = importlib.util.spec_from_file_location("_torchft", found) if found else None
    if spec is None or spec.loader is None:
        return module("torchft.coordination")
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    return native


def manager(
    name: str,
    lighthouse: str,
    *,
    rank: int,
    ranks: int,
    store: tuple[str, int],
    patience_s: float,
    quorum_s: float,
) -> Any:
    """Return a torchft Manager over a gloo group, whose step begins with a quorum.

    `patience_s` bounds transfers of state and votes, `quorum_s` the wait for others.
    """
    torchft = module("torchft")
    transport = _transport(own_host(lighthouse), patience_s)
    return torchft.Manager(
        pg=torchft.ProcessGroupGloo(timeout=timedelta(seconds=FORM_S)),
        load_state_dict=None, state_dict=None, min_replica_size=1, use_async_quorum=False,
        timeout=timedelta(seconds=patience_s), quorum_timeout=timedelta(seconds=quorum_s),
        connect_timeout=timedelta(seconds=CONNECT_S), rank=rank, world_size=ranks,
        store_addr=store[0], store_port=store[1], lighthouse_addr=lighthouse, replica_id=name,
        hostname=own_host(lighthouse), checkpoint_transport=transport, init_sync=False,
        heartbeat_interval=timedelta(seconds=HEARTBEAT_S), quorum_retries=round(quorum_s / AGAIN_S),
    )  # fmt: skip


def _transport(host: str, patience_s: float) -> Any:
    """Return torchft's transport of states by HTTP, at the address that the lighthouse is near."""
    base = module("torchft.checkpointing").HTTPTransport

    class Transport(base):  # type: ignore[misc,valid-type]
        def address(self) -> str:
            return f"http://{host}:{urlsplit(str(super().address())).port}/checkpoint/"

    return Transport(timeout=timedelta(seconds=patience_s), num_chunks=0)


def forget_quorum(of: Any) -> None:
    """Let a manager ask again after a quorum that failed; it would raise that failure for ever."""
    of._quorum_future = None  # noqa: SLF001
    of._quorum_id = -1  # noqa: SLF001 - a new lighthouse counts from the start


def quorum_of(of: Any) -> tuple[int, int, int]:
    """Return a manager's quorum: its number, the own place in it, and its size."""
    number = int(of._quorum_id)  # noqa: SLF001
    return number, int(of.participating_rank() or 0), int(of.num_participants())


def group_of(of: Any) -> Any:
    """Return the process group that a manager makes anew for each quorum."""
    return of._pg  # noqa: SLF001


def own_store(host: str) -> tuple[Any, tuple[str, int]]:
    """Start the store where ranks of this world and of others meet; return it and its place."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented

    store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
    return store, (host, int(store.port))
