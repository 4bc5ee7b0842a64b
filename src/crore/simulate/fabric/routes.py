"""From flows to a sparse matrix (links x flows): which share of a flow a link carries.

Spraying sends a flow over all surviving shortest paths in equal parts, as adapters do that cycle
through the paths they know to be good; then a leaf with fewer uplinks in one plane gets less of the
flow in that plane. ECMP keeps a flow on one path, chosen by a hash at every switch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.errors import InputError
from crore.simulate.fabric.network import Floats, Ints, Network, first_links
from crore.simulate.fabric.patterns import Flows

NO_PATH: Final = -1
GOLDEN: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True, slots=True)
class Routes:
    """The matrix by its entries; a flow without entries has no path left."""

    links: int
    flows: int
    link: Ints
    """[entries]."""
    flow: Ints
    """[entries]."""
    share: Floats
    """[entries], of the flow; over 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Paths by their links."""

    link: Ints
    """[paths, hops], -1 behind the last."""
    flow: Ints
    """[paths], rising."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """How far every node is from each destination."""

    row: Ints
    """[nodes], the row of a destination in the next two; -1 for other nodes."""
    hops: Ints
    """[destinations, nodes], links on the shortest surviving path; -1 when there is none."""
    ways: Floats
    """[destinations, nodes], how many such paths there are."""


def reach_of(network: Network, targets: Ints) -> Reach:
    """Return distances to the targets over live links, and the number of shortest paths.

    Nodes that do not pass on messages only begin and end paths.
    """
    found = np.unique(targets)
    row = np.full(network.nodes, NO_PATH, dtype=np.int64)
    row[found] = np.arange(len(found))
    live = network.bytes_per_s > 0
    source, target = network.source[live], network.target[live]
    starts = np.flatnonzero(np.r_[True, source[1:] != source[:-1]]) if len(source) else source
    hops = np.full((len(found), network.nodes), NO_PATH, dtype=np.int64)
    ways = np.zeros((len(found), network.nodes))
    hops[np.arange(len(found)), found] = 0
    ways[np.arange(len(found)), found] = 1
    usable = network.transit[target] | (target == found[:, None])
    for step in range(network.nodes if len(source) else 0):
        next_to = np.where(usable & (hops[:, target] == step), ways[:, target], 0.0)
        arriving = np.add.reduceat(next_to, starts, axis=1)
        new = (arriving > 0) & (hops[:, source[starts]] == NO_PATH)
        if not new.any():
            break
        rows, columns = np.nonzero(new)
        hops[rows, source[starts][columns]] = step + 1
        ways[rows, source[starts][columns]] = arriving[rows, columns]
    return Reach(row=row, hops=hops, ways=ways)


def spray(network: Network, flows: Flows) -> Routes:
    """Return the routes of flows spread evenly over all their surviving shortest paths.

    A share is (paths from the source to the link)·(paths from its end to the destination)/(all):
    whole numbers and one division, so that equal shares are equal to the last bit.
    """
    reach = reach_of(network, flows.target)
    aim = reach.row[flows.target]
    total = reach.ways[aim, flows.source]
    flow = np.flatnonzero(total > 0).astype(np.int64)
    node = flows.source[flow]
    ways = np.ones(len(flow))
    entries: list[tuple[Ints, Ints, Floats]] = []
    while len(flow):
        entry, link = _onward(network, reach, aim[flow], node)
        flow, ways, node = flow[entry], ways[entry], network.target[link]
        entries.append((link, flow, ways * reach.ways[aim[flow], node] / total[flow]))
        key, back = np.unique(flow * network.nodes + node, return_inverse=True)
        ways = np.bincount(back.ravel(), weights=ways, minlength=len(key)).astype(float)
        flow, node = key // network.nodes, key % network.nodes
        going = node != flows.target[flow]
        flow, node, ways = flow[going], node[going], ways[going]
    link, flow, share = _joined(entries)
    return Routes(links=network.links, flows=len(flows), link=link, flow=flow, share=share)


def every_path(network: Network, flows: Flows) -> Paths:
    """Return all surviving shortest paths; those next to each other part as early as they can.

    So packets that take them in turn change plane first, then the switch above the leaf.
    """
    reach = reach_of(network, flows.target)
    aim = reach.row[flows.target]
    flow = np.flatnonzero(reach.ways[aim, flows.source] > 0).astype(np.int64)
    most = int(reach.hops[aim, flows.source].max(initial=0))
    node = flows.source[flow]
    links = np.full((len(flow), most), NO_PATH, dtype=np.int64)
    choice = np.zeros((len(flow), most), dtype=np.int64)
    for hop in range(most):
        going = node != flows.target[flow]
        entry, link = _onward(network, reach, aim[flow[going]], node[going])
        taken = np.arange(len(entry)) - np.searchsorted(entry, entry)
        old = np.r_[np.flatnonzero(~going), np.flatnonzero(going)[entry]]
        links, choice, flow, node = links[old], choice[old], flow[old], node[old]
        new = slice(len(old) - len(entry), None)
        links[new, hop], choice[new, hop], node[new] = link, taken, network.target[link]
    order = np.lexsort((*choice.T, flow))
    return Paths(link=links[order], flow=flow[order])


def hashed_paths(network: Network, flows: Flows, seed: int, connections: int = 1) -> Paths:
    """Return a path for each connection of a flow: every switch picks its next link by a hash.

    A host knows its own ports: a flow's connections (queue pairs) leave by them in turn, from a
    hashed first one. They share its bytes evenly, and may fall on the same path further on.
    """
    if connections < 1:
        raise InputError(f"a flow has a connection, not {connections}")
    reach = reach_of(network, flows.target)
    aim = reach.row[flows.target]
    alive = np.flatnonzero(reach.ways[aim, flows.source] > 0)
    flow = np.repeat(alive, connections).astype(np.int64)
    number = np.arange(len(flow)) % connections
    own = flow * connections + number
    most = int(reach.hops[aim, flows.source].max(initial=0))
    links = np.full((len(flow), most), NO_PATH, dtype=np.int64)
    node = flows.source[flow]
    for hop in range(most):
        going = np.flatnonzero(node != flows.target[flow])
        entry, link = _onward(network, reach, aim[flow[going]], node[going])
        first = np.searchsorted(entry, np.arange(len(going)))
        several = np.bincount(entry, minlength=len(going)).astype(np.uint64)
        drawn = mixed((own if hop else flow)[going], mixed(node[going], np.uint64(seed))) % several
        turn = 0 if hop else number[going]
        chosen = link[first + (drawn.astype(np.int64) + turn) % several.astype(np.int64)]
        links[going, hop] = chosen
        node[going] = network.target[chosen]
    return Paths(link=links, flow=flow)


def routes_of(network: Network, flows: Flows, paths: Paths) -> Routes:
    """Return the routes of flows that each go evenly over the given paths.

    InputError when the paths are of other flows.
    """
    if len(paths.flow) and paths.flow[-1] >= len(flows):
        raise InputError(f"paths of flow {paths.flow[-1]} of {len(flows)}: they are of others")
    on = paths.link != NO_PATH
    flow = np.broadcast_to(paths.flow[:, None], paths.link.shape)[on]
    key, times = np.unique(paths.link[on] * len(flows) + flow, return_counts=True)
    of = key % len(flows)
    share = times / np.bincount(paths.flow, minlength=len(flows))[of]
    return Routes(
        links=network.links, flows=len(flows), link=key // len(flows), flow=of, share=share
    )


def mixed(value: Ints, seed: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    """Return 64 well-mixed bits of each value (splitmix64's finaliser, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = (value.astype(np.uint64) + seed) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return out


def _onward(network: Network, reach: Reach, aim: Ints, node: Ints) -> tuple[Ints, Ints]:
    """Return (entry, link) of every live link one hop nearer the entry's destination."""
    first = first_links(network)
    each = first[node + 1] - first[node]
    entry = np.repeat(np.arange(len(node), dtype=np.int64), each)
    offset = np.arange(len(entry)) - np.repeat(np.cumsum(each) - each, each)
    link = first[node][entry] + offset
    nearer = reach.hops[aim[entry], network.target[link]]
    left = reach.hops[aim[entry], node[entry]]
    passes = network.transit[network.target[link]] | (nearer == 0)
    keep = (nearer != NO_PATH) & (nearer == left - 1) & passes & (network.bytes_per_s[link] > 0)
    return entry[keep], link[keep]


def _joined(entries: list[tuple[Ints, Ints, Floats]]) -> tuple[Ints, Ints, Floats]:
    if not entries:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    link, flow, share = (np.concatenate(column) for column in zip(*entries, strict=True))
    return link, flow, share
