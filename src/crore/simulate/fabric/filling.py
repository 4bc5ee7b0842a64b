"""What packets take beyond the fluid: filling the pipeline, whatever the length of the message.

The fluid's time is bytes over rate. A packet is also stored at every hop, and waits where packets
that go round their paths in turn meet. Such packets come in the same order every round, so a queue
that links can keep up with has its length after the first rounds, and keeps it: some packets, which
weigh the more the fewer of a message's packets a plane carries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from crore.errors import InputError
from crore.simulate.fabric.fluid import finish_s
from crore.simulate.fabric.network import Floats, Network
from crore.simulate.fabric.packets import Packets, send
from crore.simulate.fabric.patterns import Flows
from crore.simulate.fabric.routes import NO_PATH, Paths, routes_of

ROUNDS: Final = 2
"""Rounds over its paths after which a flow's queues are taken to repeat: what they still grow is
less than 0.5 % of 4 MB on four planes, 0.9 % on eight (benchmarks/fabric.py)."""


def unloaded_s(network: Network, flows: Flows, paths: Paths, packets: Packets) -> Floats:
    """Return [flows], what a message alone in the network takes beyond the fluid; exact there.

    Hops and storing before forwarding: the last packet leaves its host when the fluid would have,
    but for the time that a packet takes at the rate of all planes together. 0 without a path.
    """
    routes = routes_of(network, flows, paths)
    longest_s, fluid_s = np.zeros(len(flows)), np.zeros(len(flows))
    used = routes.share * packets.packet_bytes / network.bytes_per_s[routes.link]
    np.maximum.at(fluid_s, routes.flow, used)
    on = paths.link != NO_PATH
    tx_s = packets.packet_bytes / np.where(on, network.bytes_per_s[paths.link], np.inf)
    alone_s = on.sum(axis=1) * packets.hop_s + tx_s.sum(axis=1)
    np.maximum.at(longest_s, paths.flow, alone_s)
    return longest_s - fluid_s


def fill_s(network: Network, flows: Flows, paths: Paths, packets: Packets) -> Floats:
    """Return [flows], what packets take beyond the fluid, found on messages of two rounds.

    Added to `finish_s` of messages of any length: the beat from the fluid, the fill of the pipeline
    from its first packets. Infinite without a path. InputError for random paths, whose queues never
    repeat, and as in `send`.
    """
    if packets.mode == "random":
        raise InputError("only packets that take their paths in turn fill a pipeline for good")
    ways = int(np.bincount(paths.flow, minlength=1).max())
    each = min(max(ROUNDS * ways, 1), packets.each)
    short = replace(packets, message_bytes=each * packets.packet_bytes)
    sizes = np.full(len(flows), float(short.message_bytes))
    fluid_s = finish_s(routes_of(network, flows, paths), network.bytes_per_s, sizes)
    sent_s = send(network, flows, paths, short)
    return np.subtract(sent_s, fluid_s, out=sent_s, where=np.isfinite(fluid_s))
