"""An explicit network: nodes, directed links with capacities, and what of them is dead.

The first nodes are the endpoints, the others switches. A dead link keeps its place with capacity 0,
so that link numbers, and what is measured per link, do not move when something fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crore.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
WHOLE = "a link's ends are nodes of the network and its capacity is 0 bytes/s or more"


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Nodes and directed links, sorted by source; a cable is two links."""

    name: str
    endpoints: int
    """Nodes 0 to endpoints - 1."""
    nodes: int
    source: Ints
    """[links], rising."""
    target: Ints
    """[links]."""
    bytes_per_s: Floats
    """[links], one direction; 0 when dead."""
    cable: Ints
    """[links], the number of the cable a link is one way of."""
    plane: Ints
    """[links], the plane a link belongs to; -1 for links inside a server or between sites."""
    transit: NDArray[np.bool_]
    """[nodes], what passes on others' messages: switches, the chips of a torus."""

    @property
    def links(self) -> int:
        """Directed links, dead ones included."""
        return len(self.source)

    @property
    def switches(self) -> int:
        """Nodes that are no endpoints."""
        return self.nodes - self.endpoints

    @property
    def cables(self) -> int:
        """Cables between switches."""
        return int((np.minimum(self.source, self.target) >= self.endpoints).sum()) // 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Cables:
    """Cables of one kind, before they are links."""

    ends: tuple[Ints, Ints]
    bytes_per_s: float
    plane: int = -1


def network_of(
    name: str, endpoints: int, nodes: int, cables: Iterable[Cables], *, forward: bool = False
) -> Network:
    """Return the network of those cables, two links each.

    `forward` when the endpoints pass on each other's messages (chips of a torus, GPUs of a server).
    InputError when an end is no node, or a capacity is negative or no number.
    """
    kinds = list(cables)
    a, b = (np.concatenate([np.asarray(k.ends[i], dtype=np.int64) for k in kinds]) for i in (0, 1))
    each = [len(k.ends[0]) for k in kinds]
    rate = np.repeat([k.bytes_per_s for k in kinds], each).astype(float)
    plane = np.repeat(np.array([k.plane for k in kinds], dtype=np.int64), each)
    inside = len(a) == 0 or (min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) < nodes)
    if not inside or not (np.isfinite(rate) & (rate >= 0)).all():
        raise InputError(f"{name}: {WHOLE}")
    transit = np.arange(nodes) >= (0 if forward else endpoints)
    source, target = np.r_[a, b], np.r_[b, a]
    order = np.argsort(source, kind="stable")
    return Network(
        name=name,
        endpoints=endpoints,
        nodes=nodes,
        source=source[order],
        target=target[order],
        bytes_per_s=np.r_[rate, rate][order],
        cable=np.r_[np.arange(len(a)), np.arange(len(a))][order],
        plane=np.r_[plane, plane][order],
        transit=transit,
    )


def without(
    network: Network,
    *,
    cables: Iterable[tuple[int, int]] = (),
    nodes: Iterable[int] = (),
    planes: Iterable[int] = (),
) -> Network:
    """Return the network with those cables (all that join the two nodes), nodes and planes dead."""
    dead = np.isin(network.plane, np.array(list(planes), dtype=np.int64))
    gone = np.isin(np.arange(network.nodes), np.array(list(nodes), dtype=np.int64))
    dead |= gone[network.source] | gone[network.target]
    pairs = np.array(list(cables), dtype=np.int64).reshape(-1, 2)
    keys = np.r_[pairs @ [network.nodes, 1], pairs[:, ::-1] @ [network.nodes, 1]]
    dead |= np.isin(network.source * network.nodes + network.target, keys)
    return replace(network, bytes_per_s=np.where(dead, 0.0, network.bytes_per_s))


def random_failures(network: Network, share: float, seed: int) -> Network:
    """Return the network with each cable dead with that probability, independently of others."""
    dead = np.random.default_rng(seed).random(network.links // 2) < share
    return replace(network, bytes_per_s=np.where(dead[network.cable], 0.0, network.bytes_per_s))


def first_links(network: Network) -> Ints:
    """Return [nodes + 1]: the links of node v are those from entry v up to entry v + 1."""
    return np.searchsorted(network.source, np.arange(network.nodes + 1)).astype(np.int64)
