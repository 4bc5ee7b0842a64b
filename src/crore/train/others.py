"""Who else there is for one rank: the worlds of its island, and the other islands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict

from torch import Tensor

from crore.train.fault.crew import Crew
from crore.train.fleet import Fleet, OneIsland
from crore.train.islands.joining import Islands
from crore.train.job import Job
from crore.train.peers import Alone, Peers


class Others(TypedDict):
    """As the loop takes them."""

    peers: Peers
    fleet: Fleet


def others_of(
    job: Job, named: Mapping[str, Tensor], tell: Callable[..., None],
    asked: Callable[[], bool],
) -> Others:  # fmt: skip
    """Return who else there is.

    `tell` hears a line and its kind, a note if left out; `asked` says whether to leave.
    """
    seat = job.seat
    if seat is None:
        return Others(peers=Alone(), fleet=OneIsland())
    peers: Peers = Alone(seat.world, seat.island, seat.islands)
    if seat.lighthouse:
        peers = Crew(seat, tell=tell, asked=asked)
    if job.outer is None:
        return Others(peers=peers, fleet=OneIsland())
    islands = Islands(
        seat, job.outer, named, peers=peers, tell=lambda what, line: tell(line, what), asked=asked
    )
    return Others(peers=peers, fleet=islands)
