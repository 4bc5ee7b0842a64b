"""Packets through first-in-first-out links, one by one but vectorised: the check on the fluid.

Links are served in an order in which none comes after a link it feeds; a link's departures are then
Lindley's recursion in closed form, `d_i = tx·(i+1) + max_(j<=i) (a_j - tx·j)` over packets in order
of arrival (Lindley 1952). Exact for FIFO links with room for all packets.

Hosts pace each message at its max-min rate: what congestion control aims at, found at once. Hosts
that sent as fast as they can would queue megabytes at a taper or a dead link, and a FIFO shares by
what arrives. Left out: how control finds its rates, losses, acknowledgements and pauses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from crore.errors import InputError, UnknownName
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Floats, Ints, Network
from crore.simulate.fabric.patterns import Flows
from crore.simulate.fabric.routes import NO_PATH, Paths, routes_of

Mode = Literal["round-robin", "random"]
HOP_S: Final = 6e-7
"""A switch and its cable: 0.5 us of an Ethernet switch, 20 m of fibre; estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packets:
    """How messages are cut and sent."""

    message_bytes: int
    """Of each flow; rounded up to whole packets."""
    packet_bytes: int = 4096
    mode: Mode = "round-robin"
    """Packets take a flow's paths in turn, from a random first one, or each a random one."""
    hop_s: float = HOP_S
    """Latency of every link, seconds."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UnknownName("mode", self.mode, get_args(Mode))
        if min(self.message_bytes, self.packet_bytes) < 1 or not self.hop_s >= 0:
            raise InputError(
                f"a message and a packet have bytes, a hop no negative time: {self.message_bytes}, "
                f"{self.packet_bytes}, {self.hop_s:g} s"
            )

    @property
    def each(self) -> int:
        """Packets of a message."""
        return -(-self.message_bytes // self.packet_bytes)


def send(network: Network, flows: Flows, paths: Paths, packets: Packets) -> Floats:
    """Return [flows], when the last packet of each message has arrived; all start at 0.

    A host hands over a packet at a time, at the rate its flow has while all others send (with
    random paths: when spread evenly), so that of equal messages the last ends when the fluid does.
    Infinite for a flow without a path. InputError where links feed each other in a circle, as in a
    torus: no order of them is exact there.
    """
    rank = _ranks(network, paths)
    flow, path = _chosen(flows, paths, packets)
    rate = max_min(routes_of(network, flows, paths), network.bytes_per_s)
    number = np.tile(np.arange(packets.each), len(flow) // packets.each)
    time_s: Floats = number * packets.packet_bytes / rate[flow]
    hop = np.zeros(len(flow), dtype=np.int64)
    links = paths.link[path]
    for tier in range(int(rank.max(initial=-1)) + 1):
        link = links[np.arange(len(flow)), np.minimum(hop, links.shape[1] - 1)]
        here = np.flatnonzero((hop < links.shape[1]) & (link != NO_PATH) & (rank[link] == tier))
        if not len(here):
            continue
        tx_s: Floats = packets.packet_bytes / network.bytes_per_s[link[here]]
        time_s[here] = fifo(time_s[here], link[here], tx_s) + packets.hop_s
        hop[here] += 1
    last_s = np.full(len(flows), np.inf)
    routed = np.unique(flow)
    last_s[routed] = 0.0
    np.maximum.at(last_s, flow, time_s)
    return last_s


def fifo(arrival_s: Floats, link: Ints, tx_s: Floats) -> Floats:
    """Return when each packet has left its link; ties leave in the order given.

    `tx_s`, the seconds a packet takes on its link, is equal for all packets of one link.
    """
    order = np.lexsort((arrival_s, link))
    arrival_s, link, tx_s = arrival_s[order], link[order], tx_s[order]
    starts = np.flatnonzero(np.r_[True, link[1:] != link[:-1]])
    group = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(link)]))
    place = np.arange(len(link)) - starts[group]
    slack_s = arrival_s - tx_s * place
    # One running maximum serves all links: each link's values lie above those of the one before.
    lift_s = group * (slack_s.max(initial=0.0) - slack_s.min(initial=0.0) + 1e-9)
    ends_s = np.maximum.accumulate(slack_s + lift_s) - lift_s + tx_s * (place + 1)
    out = np.zeros(len(order))
    out[order] = ends_s
    return out


def _chosen(flows: Flows, paths: Paths, packets: Packets) -> tuple[Ints, Ints]:
    """Return (flow, path) of every packet of the flows that have a path."""
    ways = np.bincount(paths.flow, minlength=len(flows))
    routed = np.flatnonzero(ways)
    first = (np.cumsum(ways) - ways)[routed, None]
    random = np.random.default_rng(packets.seed)
    if packets.mode == "random":
        turn = random.integers(0, ways[routed, None], (len(routed), packets.each))
    else:
        begins = random.integers(0, ways[routed])[:, None]
        turn = (begins + np.arange(packets.each)) % ways[routed, None]
    flow = np.repeat(routed, packets.each).astype(np.int64)
    return flow, (first + turn).ravel().astype(np.int64)


def _ranks(network: Network, paths: Paths) -> Ints:
    """Return [links]: of links in use a number above those of all that feed them; else -1."""
    rank = np.full(network.links, -1, dtype=np.int64)
    rank[paths.link[paths.link != NO_PATH]] = 0
    follows = (paths.link[:, 1:] != NO_PATH) & (paths.link[:, :-1] != NO_PATH)
    before, after = paths.link[:, :-1][follows], paths.link[:, 1:][follows]
    pairs = np.unique(np.stack([before, after], axis=1), axis=0)
    for _ in range(network.links + 1):
        late = rank[pairs[:, 1]] <= rank[pairs[:, 0]]
        if not late.any():
            return rank
        np.maximum.at(rank, pairs[late, 1], rank[pairs[late, 0]] + 1)
    raise InputError(f"{network.name}: its links feed each other in a circle; packets need a tree")
