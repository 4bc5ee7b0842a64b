"""Small fabrics of every kind, broken at random, and patterns on them, for property tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from crore.simulate.fabric.graphs import dragonfly, over_sites, slim_fly, torus
from crore.simulate.fabric.network import Network, random_failures, without
from crore.simulate.fabric.patterns import (
    Flows,
    exchange_of,
    incast_of,
    permutation_of,
    ring_of,
)
from crore.simulate.fabric.routes import Routes, hashed_paths, routes_of, spray
from crore.simulate.fabric.trees import Tree, folded_clos, full_tree, rail_only, rail_optimised

KINDS = {
    "clos-2": lambda: folded_clos(full_tree(8, 2)),
    "clos-2 tapered, 3 planes": lambda: folded_clos(full_tree(8, 2, taper=0.5, planes=3)),
    "clos-2 uneven": lambda: folded_clos(Tree(down=(3, 7), up=(1, 5))),
    "clos-3": lambda: folded_clos(full_tree(4, 3)),
    "clos-3 tapered, 2 planes": lambda: folded_clos(full_tree(4, 3, taper=0.5, planes=2)),
    "rail-optimised": lambda: rail_optimised(full_tree(8, 2), 4, 200e9),
    "rail-only": lambda: rail_only(full_tree(4, 2), 4, 200e9),
    "dragonfly": lambda: dragonfly(2, 4, 2, 50e9),
    "slim-fly 5": lambda: slim_fly(5, 1, 50e9),
    "slim-fly 7": lambda: slim_fly(7, 1, 50e9),
    "torus": lambda: torus((3, 4, 3), 60e9),
    "sites": lambda: over_sites(folded_clos(full_tree(4, 2)), 4, 10e9),
}


def pattern(name: str, ranks: np.ndarray, seed: int) -> Flows:
    """Return flows among those ranks."""
    if name == "ring":
        return ring_of(ranks, 1 + seed % (len(ranks) - 1))
    if name == "incast":
        return incast_of(ranks)
    if name == "exchange":
        return exchange_of(ranks[: 2 + seed % 12])
    return permutation_of(ranks, seed)


@st.composite
def broken(draw: st.DrawFn) -> Network:
    """Return a small fabric with dead cables, and sometimes a dead switch or plane."""
    network = KINDS[draw(st.sampled_from(sorted(KINDS)))]()
    seed = draw(st.integers(0, 10**6))
    network = random_failures(network, draw(st.sampled_from([0.0, 0.02, 0.1, 0.3])), seed)
    if network.switches and draw(st.booleans()):
        network = without(network, nodes=[network.endpoints + seed % network.switches])
    if network.plane.max() > 0 and draw(st.booleans()):
        network = without(network, planes=[seed % int(network.plane.max() + 1)])
    return network


@st.composite
def loaded(draw: st.DrawFn) -> tuple[Network, Flows, Routes]:
    """Return a broken fabric, a pattern on some of its endpoints, and routes of either kind."""
    network = draw(broken())
    seed = draw(st.integers(0, 10**6))
    count = draw(st.integers(2, network.endpoints))
    ranks = np.random.default_rng(seed).permutation(network.endpoints)[:count].astype(np.int64)
    if draw(st.booleans()):
        ranks = np.sort(ranks)
    flows = pattern(
        draw(st.sampled_from(["ring", "permutation", "incast", "exchange"])), ranks, seed
    )
    if draw(st.booleans()):
        return network, flows, spray(network, flows)
    return network, flows, routes_of(network, flows, hashed_paths(network, flows, seed))


def dense(routes: Routes) -> np.ndarray:
    """Return the matrix [links, flows] of shares."""
    matrix = np.zeros((routes.links, routes.flows))
    np.add.at(matrix, (routes.link, routes.flow), routes.share)
    return matrix
