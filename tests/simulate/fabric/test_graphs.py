"""Direct networks and sites cable by cable, against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crore.cost import fabric_counts
from crore.cost.fabric import design
from crore.cost.fabric_sites import over_sites as sites_design
from crore.cost.fabric_torus import torus as torus_design
from crore.errors import InputError
from crore.simulate.fabric.graphs import dragonfly, over_sites, slim_fly, torus
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.patterns import Flows
from crore.simulate.fabric.routes import reach_of, spray
from crore.simulate.fabric.trees import folded_clos, full_tree


def diameter(network):
    """Switches on the longest of the shortest paths."""
    every = np.arange(network.endpoints)
    return int(reach_of(network, every).hops[:, : network.endpoints].max()) - 1


def cut(network, left):
    """Links from one set of nodes to the others, one direction."""
    inside = np.zeros(network.nodes, dtype=bool)
    inside[left] = True
    return int((inside[network.source] & ~inside[network.target]).sum())


@pytest.mark.parametrize(("p", "a", "h"), [(1, 2, 1), (2, 4, 2), (3, 6, 3)])
def test_a_balanced_dragonfly_has_the_counts_of_the_closed_form(p, a, h):
    network = dragonfly(p, a, h, 1.0)
    form = fabric_counts.dragonfly(network.endpoints, 4 * p - 1)
    assert network.endpoints == form.max_endpoints
    assert (network.switches, network.cables) == (form.switches, form.links)
    assert diameter(network) == form.diameter
    degree = np.bincount(network.source, minlength=network.nodes)
    assert (degree[network.endpoints :] == p + a - 1 + h).all()


def test_every_two_groups_of_a_dragonfly_have_one_cable():
    network = dragonfly(2, 4, 2, 1.0)
    inner = network.source >= network.endpoints
    inner &= network.target >= network.endpoints
    group = (network.source[inner] - network.endpoints) // 4
    other = (network.target[inner] - network.endpoints) // 4
    joined = np.zeros((9, 9), dtype=int)
    np.add.at(joined, (group, other), 1)
    assert (joined[~np.eye(9, dtype=bool)] == 1).all()


@pytest.mark.parametrize("q", [5, 7, 11, 13])
def test_a_slim_fly_has_the_counts_and_diameter_of_the_closed_form(q):
    network = slim_fly(q, 1, 1.0)
    switches, degree = fabric_counts.mms(q)
    assert (network.switches, network.cables) == (switches, switches * degree // 2)
    ports = np.bincount(network.source, minlength=network.nodes)[network.endpoints :]
    assert (ports == degree + 1).all()
    assert diameter(network) == 3


@pytest.mark.parametrize("q", [5, 7])
def test_a_slim_fly_is_as_wide_as_its_second_eigenvalue_allows(q):
    """No halving cuts less than (k' - λ2)·n/4 links; some halving by groups attains `q/(2p)`."""
    network = slim_fly(q, 1, 1.0)
    n = network.switches
    inner = (network.source >= n) & (network.target >= n)
    graph = np.zeros((n, n))
    graph[network.source[inner] - n, network.target[inner] - n] = 1
    degree = graph.sum(axis=1)[0]
    second = np.linalg.eigvalsh(graph)[-2]
    p = int(degree) // 2
    bound = (degree - second) * n / 4
    assert bound / (n * p / 2) == pytest.approx(
        fabric_counts.slim_fly(n * p, int(degree) + p).bisection, rel=1e-9
    )


@pytest.mark.parametrize("edge", [4, 8])
def test_a_torus_has_the_counts_diameter_and_bisection_of_the_closed_form(edge):
    network = torus((edge,) * 3, 6.0)
    form = torus_design(edge**3, 6.0)
    assert (network.endpoints, network.switches) == (form.max_endpoints, form.switches)
    assert network.links // 2 == form.links
    assert diameter(network) + 1 == form.diameter  # chips, the last included
    left = np.arange(edge**3 // 2)
    assert cut(network, left) * 1.0 / (edge**3 / 2 * 6.0) == pytest.approx(form.bisection)


def test_sites_are_reached_through_their_routers_and_share_the_long_link():
    site = folded_clos(full_tree(4, 2))
    network = over_sites(site, 3, 10e9)
    assert network.endpoints == 3 * 8
    assert network.switches == 3 * (site.switches + 1)
    # Host, leaf, spine, router, router, spine, leaf, host.
    assert diameter(network) == 6
    across = Flows(source=np.arange(8), target=np.arange(8) + 8)
    rates = max_min(spray(network, across), network.bytes_per_s)
    assert rates == pytest.approx(np.full(8, 10e9 / 8))
    inside = Flows(source=np.arange(8), target=(np.arange(8) + 2) % 8)
    assert max_min(spray(network, inside), network.bytes_per_s).min() == 50e9


@pytest.mark.parametrize("shape", ["ring", "mesh"])
@pytest.mark.parametrize("sites", [2, 3, 4, 5])
def test_sites_have_the_diameter_and_the_cut_of_their_closed_form(sites, shape):
    site = design("clos", 512, 50e9, switch="25.6t", tiers=2)
    form = sites_design(site, sites, 10e9, 100.0, shape)
    small = folded_clos(full_tree(4, 2))
    network = over_sites(small, sites, 10e9, ring=shape == "ring")
    assert diameter(network) == form.diameter
    routers = np.arange(network.nodes - sites, network.nodes)
    far = (network.source >= routers[0]) & (network.target >= routers[0])
    assert far.sum() == 2 * form.wan_links
    first = routers[: sites // 2]
    across = far & np.isin(network.source, first) & ~np.isin(network.target, first)
    half = sites // 2 * site.endpoints * 50e9
    assert across.sum() * 10e9 / half == pytest.approx(form.bisection)


@pytest.mark.parametrize(("sites", "cables"), [(2, 1), (3, 3), (5, 5)])
def test_a_ring_of_sites_has_a_link_a_site(sites, cables):
    site = folded_clos(full_tree(4, 2))
    spare = 2 * sites  # of each site, router to its two spines
    assert over_sites(site, sites, 1e9).cables == sites * site.cables + spare + cables
    mesh = over_sites(site, sites, 1e9, ring=False)
    assert mesh.cables == sites * site.cables + spare + math.comb(sites, 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: slim_fly(9, 1, 1.0), "primes from 5 on, not 9"),
        (lambda: slim_fly(4, 1, 1.0), "not 4"),
        (lambda: dragonfly(0, 4, 2, 1.0), "over 0"),
        (lambda: torus((2, 4, 4), 1.0), "three chips"),
        (lambda: torus((), 1.0), "three chips"),
        (lambda: torus((3, 3), -1.0), "capacity is 0 bytes/s or more"),
        (lambda: over_sites(folded_clos(full_tree(4, 2)), 1, 1e9), "two and more"),
        (lambda: over_sites(torus((3, 3, 3), 1.0), 2, 1e9), "each a tree"),
    ],
)
def test_what_is_no_network_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        asked()
