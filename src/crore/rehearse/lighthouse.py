"""What a lighthouse with many worlds costs: torchft's own server, and its own clients as worlds."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from crore.errors import InputError
from crore.rehearse.crowd import GIVE_UP_S, Client, Crowd, PhaseCost

BEAT_S: Final = 1.0
"""Between two heartbeats of a world here; torchft's manager sends ten times as many."""
FEWEST: Final = 3
"""Members: one dies, and one alone is no quorum."""
_PATIENCE: Final = timedelta(seconds=GIVE_UP_S)
_TICK_MS: Final = 100
_JOIN_MS: Final = 60_000
"""torchft's default: a member that lives but does not ask is waited for so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What one lighthouse cost with so many members."""

    members: int
    phases: dict[str, PhaseCost]
    """`connect`; `heartbeat` of each, once; `first` quorum of all; `again`, all alive; `bereaved`:
    the next without the first member, which has died; `steady`, without it; `return` of it. Results
    are the members each was told of."""

    def heartbeat_cpu_s(self) -> float:
        """Return CPU seconds of the lighthouse per heartbeat."""
        return self.phases["heartbeat"].server_cpu_s / self.members


def watch(
    members: int, *, dead_after_s: float = 5.0, told: Callable[[str], None] = lambda _: None
) -> Watch:
    """Let as many members meet at one lighthouse; one dies and comes back.

    A member is dead when it has not been heard for `dead_after_s` (torchft's default is 5). Raises
    InputError without torchft, and for fewer than FEWEST members.
    """
    if members < FEWEST:
        raise InputError(f"a lighthouse is watched with {FEWEST} members or more, not {members}")
    _torchft()
    costs: dict[str, PhaseCost] = {}

    def note(name: str, cost: PhaseCost) -> None:
        costs[name] = cost
        told(f"{members:,} members: {name} {cost.wall_s:.2f} s")

    with Crowd(serve, join, members, members // 2 + 1, math.ceil(1000 * dead_after_s)) as crowd:
        note("connect", crowd.run(None))
        note("heartbeat", crowd.run(heartbeat))
        beat_s = min(BEAT_S, dead_after_s / 4)
        crowd.repeat(heartbeat, beat_s)
        note("first", crowd.run(quorum))
        note("again", crowd.run(quorum))
        crowd.repeat(heartbeat, beat_s, without=(0,))
        note("bereaved", crowd.run(quorum, without=(0,)))
        note("steady", crowd.run(quorum, without=(0,)))
        crowd.run(heartbeat)
        crowd.repeat(heartbeat, beat_s)
        note("return", crowd.run(quorum))
    return Watch(members=members, phases=costs)


def serve(at_least: int, dead_after_ms: int) -> tuple[str, object]:
    """Start a lighthouse that wants so many members; returns its address, and itself."""
    server = _torchft().LighthouseServer(
        bind="127.0.0.1:0", min_replicas=at_least, join_timeout_ms=_JOIN_MS,
        quorum_tick_ms=_TICK_MS, heartbeat_timeout_ms=dead_after_ms,
    )  # fmt: skip
    port = str(server.address()).rpartition(":")[2]
    return f"http://127.0.0.1:{port}", server


def join(client: Client) -> Any:
    """Connect as one world's manager does."""
    return _torchft().LighthouseClient(client.address, _PATIENCE)


def heartbeat(client: Client) -> None:
    """Say that this world lives."""
    client.link.heartbeat(f"world-{client.number}", _PATIENCE)


def quorum(client: Client) -> int:
    """Ask for the next quorum and wait for it; returns its members."""
    found = client.link.quorum(
        replica_id=f"world-{client.number}", timeout=_PATIENCE, address=f"http://10.0.0.1:{client.number}",
        store_address="10.0.0.1:29500", step=1, world_size=8192, shrink_only=False,
    )  # fmt: skip
    return len(found.participants)


def _torchft() -> Any:
    os.environ.setdefault("RUST_LOG", "error")  # else it writes every quorum out, to every member
    try:
        return importlib.import_module("torchft.coordination")
    except ImportError as error:
        raise InputError("a lighthouse needs torchft: pip install 'crore[ft]'") from error
