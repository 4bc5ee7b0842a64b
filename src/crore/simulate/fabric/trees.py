"""Folded Clos networks with planes, taper and rails, cable by cable.

A tree of `h` tiers is an extended generalised fat tree (Öhring et al., IPPS 1995): a node of tier i
has `down[i]` children and `up[i]` parents, and is named by the digits of the subtree it is in above
tier i and of the copy it is of it below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crore.errors import InputError
from crore.simulate.fabric.network import Cables, Ints, Network, network_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """A folded Clos of small numbers, given tier by tier."""

    down: tuple[int, ...]
    """Children of a switch of each tier, leaves first; their product is the endpoints."""
    up: tuple[int, ...]
    """Parents of a node below each tier, endpoints first; the first is 1 (planes are apart)."""
    planes: int = 1
    """Equal networks; each has its share of an endpoint's bandwidth."""
    nic_bytes_per_s: float = 50e9
    """Of an endpoint, all planes together, one direction."""

    def __post_init__(self) -> None:
        if len(self.down) != len(self.up) or not self.down or min(*self.down, *self.up) < 1:
            raise InputError(f"a tree has as many downs as ups, over 0: {self.down}, {self.up}")
        if self.up[0] != 1 or self.planes < 1 or not 0 < self.nic_bytes_per_s < math.inf:
            raise InputError(
                f"an endpoint has one leaf in each of its planes, and bandwidth, not {self.up[0]} "
                f"leaves, {self.planes} planes, {self.nic_bytes_per_s:g} bytes/s"
            )

    @property
    def endpoints(self) -> int:
        """Endpoints of the tree."""
        return math.prod(self.down)

    def nodes_of(self, tier: int) -> int:
        """Nodes of a tier in one plane; tier 0 is the endpoints."""
        return math.prod(self.down[tier:]) * math.prod(self.up[:tier])


def full_tree(radix: int, tiers: int, *, taper: float = 1.0, planes: int = 1) -> Tree:
    """Return the largest folded Clos of that radix, `2(R/2)^k` endpoints, tapered at the leaf.

    InputError for an odd radix, or a taper that leaves no whole number of uplinks.
    """
    half = radix // 2
    uplinks = taper * half
    if radix % 2 or half < 1 or tiers < 1 or uplinks != int(uplinks) or (tiers > 1 and uplinks < 1):
        raise InputError(
            f"a tree of {tiers} tiers has an even radix and whole uplinks, not {radix}, {uplinks:g}"
        )
    if tiers == 1:
        return Tree(down=(radix,), up=(1,), planes=planes)
    middle = (half,) * (tiers - 2)
    return Tree(down=(half, *middle, radix), up=(1, int(uplinks), *middle), planes=planes)


def folded_clos(tree: Tree) -> Network:
    """Return the network of a tree: every plane a copy, joined at the endpoints alone."""
    cables, nodes = _planes(tree, tree.endpoints, lambda endpoint: endpoint)
    return network_of(f"clos {tree.down} up {tree.up}", tree.endpoints, nodes, cables)


def rail_optimised(tree: Tree, rails: int, domain_bytes_per_s: float) -> Network:
    """Return one Clos whose leaves each join the GPUs of one number in a server of `rails` GPUs.

    Endpoint `server·rails + rail`. The GPUs of a server also share a scale-up switch, and pass on
    each other's messages, so that a message may change rail inside a server.
    """
    if tree.down[0] * (tree.endpoints // tree.down[0]) % (rails * tree.down[0]):
        raise InputError(
            f"{tree.endpoints // tree.down[0]} leaves are no whole number of groups of {rails}"
        )
    under = tree.down[0]

    def place(slot: Ints) -> Ints:
        """Leaf l holds rail l mod rails of the servers of group l // rails."""
        leaf, position = slot // under, slot % under
        return (leaf // rails * under + position) * rails + leaf % rails

    cables, nodes = _planes(tree, tree.endpoints, place)
    name = f"rail-optimised {tree.down} up {tree.up}, {rails} rails"
    return _with_servers(name, tree.endpoints, nodes, cables, rails, domain_bytes_per_s)


def rail_only(tree: Tree, rails: int, domain_bytes_per_s: float) -> Network:
    """Return `rails` Clos networks that no switch joins, one for each GPU of a server.

    Endpoint `server·rails + rail`; between rails a message goes by the server's scale-up switch
    (arXiv 2307.12169).
    """
    endpoints = tree.endpoints * rails
    cables: list[Cables] = []
    nodes = endpoints
    for rail in range(rails):
        more, nodes = _planes(tree, nodes, lambda slot, rail=rail: slot * rails + rail)  # type: ignore[misc]
        cables += more
    name = f"rail-only {tree.down} up {tree.up}, {rails} rails"
    return _with_servers(name, endpoints, nodes, cables, rails, domain_bytes_per_s)


def _planes(tree: Tree, first: int, place: Callable[[Ints], Ints]) -> tuple[list[Cables], int]:
    """Return the cables of all planes, switches numbered from `first`, and the nodes so far."""
    rate = tree.nic_bytes_per_s / tree.planes
    cables = []
    for plane in range(tree.planes):
        below = place(np.arange(tree.nodes_of(0), dtype=np.int64))
        for tier in range(1, len(tree.down) + 1):
            above = first + np.arange(tree.nodes_of(tier), dtype=np.int64)
            child, parent = _joined(tree, tier)
            cables.append(Cables(ends=(below[child], above[parent]), bytes_per_s=rate, plane=plane))
            below, first = above, first + len(above)
    return cables, first


def _joined(tree: Tree, tier: int) -> tuple[Ints, Ints]:
    """Return (child, parent) of every cable between a tier and the one below.

    A node is `subtree·copies + copy`; its parents are the `up` copies of the switch above.
    """
    down, up = tree.down[tier - 1], tree.up[tier - 1]
    copies = math.prod(tree.up[: tier - 1])
    child = np.repeat(np.arange(tree.nodes_of(tier - 1), dtype=np.int64), up)
    copy = np.tile(np.arange(up, dtype=np.int64), tree.nodes_of(tier - 1))
    subtree = child // copies // down
    return child, (subtree * up + copy) * copies + child % copies


def _with_servers(
    name: str, endpoints: int, nodes: int, cables: list[Cables], gpus: int, bytes_per_s: float
) -> Network:
    """Add a scale-up switch to every server of that many GPUs."""
    if endpoints % gpus:
        raise InputError(f"{endpoints} endpoints are no whole servers of {gpus}")
    every = np.arange(endpoints, dtype=np.int64)
    servers = Cables(ends=(every, nodes + every // gpus), bytes_per_s=bytes_per_s)
    return network_of(name, endpoints, nodes + endpoints // gpus, [*cables, servers], forward=True)
