"""What joining a world costs at its store: real sockets of one TCPStore on loopback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, not listed

from crore.rehearse.crowd import GIVE_UP_S, Client, Crowd, Phase, PhaseCost

ADDRESS: Final = b"x" * 128
"""About what a rank publishes: gloo's socket address, or NCCL's unique id."""
_PATIENCE: Final = timedelta(seconds=GIVE_UP_S)


def meeting(
    ranks: int, *, everyone: bool = False, told: Callable[[str], None] = lambda _: None
) -> dict[str, PhaseCost]:
    """Let as many clients meet at one store, and return what each phase cost.

    `connect`; `publish` one's own address; `read` that of the first rank, as members of an NCCL
    group read its id; `barrier` as in torch's `_store_based_barrier`; and with `everyone`
    `read all`, as gloo does, which connects every pair: ranks squared.
    """
    phases: dict[str, Phase | None] = {
        "connect": None, "publish": publish, "read": read_first, "barrier": barrier,
    }  # fmt: skip
    if everyone:
        phases["read all"] = read_all
    costs: dict[str, PhaseCost] = {}
    with Crowd(serve, join, ranks) as crowd:
        for name, phase in phases.items():
            costs[name] = crowd.run(phase)
            told(f"{ranks:,} ranks: {name} {costs[name].wall_s:.2f} s")
    return costs


def serve() -> tuple[str, TCPStore]:
    """Start a store as rank 0 does; returns its port, and itself."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=_PATIENCE)
    return str(store.port), store


def join(client: Client) -> TCPStore:
    """Connect as one rank does."""
    return TCPStore(
        "127.0.0.1", int(client.address), is_master=False, wait_for_workers=False, timeout=_PATIENCE
    )


def publish(client: Client) -> None:
    """Say where this rank is found."""
    client.link.set(f"rank/{client.number}", ADDRESS)


def read_first(client: Client) -> int:
    """Read where the first rank is found; returns the bytes read."""
    return len(client.link.get("rank/0"))


def read_all(client: Client) -> int:
    """Read where every rank is found; returns the bytes read."""
    return sum(len(client.link.get(f"rank/{other}")) for other in range(client.clients))


def barrier(client: Client) -> None:
    """Wait until all are here."""
    client.link.add("barrier", 1)
    if client.link.add("barrier", 0) == client.clients:
        client.link.set("barrier/last", b"1")
    client.link.wait(["barrier/last"], _PATIENCE)
