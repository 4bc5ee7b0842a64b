"""Trees cable by cable have the counts of their closed forms, and the reach they promise."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost.fabric_counts import clos
from crore.cost.fabric_counts import rail_optimised as clos_of_rails
from crore.errors import InputError
from crore.simulate.fabric.network import without
from crore.simulate.fabric.patterns import ring_of
from crore.simulate.fabric.routes import reach_of, spray
from crore.simulate.fabric.trees import Tree, folded_clos, full_tree, rail_only, rail_optimised


def hops(network):
    every = np.arange(network.endpoints)
    return reach_of(network, every).hops[:, : network.endpoints]


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize(
    ("radix", "tiers"), [(8, 1), (4, 2), (8, 2), (16, 2), (4, 3), (8, 3), (4, 4)]
)
def test_a_full_tree_has_the_counts_and_diameter_of_the_closed_form(radix, tiers, planes):
    tree = full_tree(radix, tiers, planes=planes)
    network = folded_clos(tree)
    form = clos(tree.endpoints, radix, tiers, 1.0)
    assert tree.endpoints == form.max_endpoints
    assert network.switches == form.switches * planes
    assert network.cables == form.links * planes
    assert hops(network).max() - 1 == form.diameter  # links less one are switches
    ports = np.bincount(network.source, minlength=network.nodes)
    assert (ports[: network.endpoints] == planes).all()
    assert (ports[network.endpoints :] == radix).all()


@pytest.mark.parametrize(("radix", "tiers"), [(8, 2), (16, 2), (8, 3)])
@pytest.mark.parametrize("taper", [0.5, 0.25])
def test_a_tapered_tree_has_the_links_of_the_closed_form(radix, tiers, taper):
    tree = full_tree(radix, tiers, taper=taper)
    network = folded_clos(tree)
    assert network.cables == clos(tree.endpoints, radix, tiers, taper).links


def test_halving_a_tree_cuts_what_the_closed_form_says():
    """Left and right half of the pods: links from a top switch to the right, over N/2 endpoints."""
    for taper in (1.0, 0.5):
        tree = full_tree(8, 3, taper=taper)
        network = folded_clos(tree)
        top = np.arange(network.nodes - tree.nodes_of(3), network.nodes)
        into = network.source >= top[0]
        half = into.sum() / 2
        assert half / (tree.endpoints / 2) == clos(tree.endpoints, 8, 3, taper).bisection


def test_planes_meet_at_the_endpoints_alone():
    network = folded_clos(full_tree(4, 2, planes=2))
    inner = (network.source >= network.endpoints) & (network.target >= network.endpoints)
    plane_of: dict[int, int] = {}
    for node, plane in zip(network.source[inner], network.plane[inner], strict=True):
        assert plane_of.setdefault(node, plane) == plane
    left = without(network, planes=[0])
    assert (hops(left) >= 0).all()
    assert (hops(without(network, planes=[0, 1])) > 0).sum() == 0


def test_rails_join_the_gpus_of_one_number_under_one_leaf():
    """Sixteen servers of four on leaves of four: servers 0 to 3, GPU 2 are under one leaf."""
    tree = Tree(down=(4, 16), up=(1, 4), nic_bytes_per_s=50e9)
    network = rail_optimised(tree, 4, 200e9)
    far = hops(network)
    assert far[0 * 4 + 2, 3 * 4 + 2] == 2
    assert far[0 * 4 + 2, 4 * 4 + 2] == 4
    assert far[0, 1] == 2  # by the server's own switch
    assert network.switches == tree.nodes_of(1) + tree.nodes_of(2) + 16


def test_a_full_network_of_rails_has_the_counts_of_the_closed_form():
    tree = full_tree(8, 2)
    network = rail_optimised(tree, 4, 200e9)
    form = clos_of_rails(tree.endpoints, 8, 2, 1.0, 4)
    servers = tree.endpoints // 4
    assert tree.endpoints == form.max_endpoints
    assert network.switches - servers == form.switches
    assert network.cables == form.links


def test_rails_that_no_switch_joins_are_joined_inside_servers():
    tree = full_tree(4, 2)
    network = rail_only(tree, 4, 200e9)
    far = hops(network)
    assert far.max() == 2 + 4
    cut = without(network, nodes=range(network.nodes - tree.endpoints, network.nodes))
    same_rail = np.equal.outer(*(np.arange(network.endpoints) % 4,) * 2)
    assert ((hops(cut) >= 0) == same_rail).all()
    assert network.cables == clos(tree.endpoints, 4, 2, 1.0).links * 4


def test_an_endpoint_of_a_tree_passes_nothing_on():
    """With both of a pair's leaves cut off the planes do not meet through a third host."""
    network = folded_clos(full_tree(4, 2, planes=2))
    leaves = network.target[network.source == 0]
    far = network.target[network.source == 7]
    cut = without(network, cables=[(0, leaves[0]), (7, far[1])])
    assert hops(cut)[7, 0] == -1
    assert len(spray(cut, ring_of(np.array([0, 7]))).flow) == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: Tree(down=(4,), up=(1, 2)), "as many downs as ups"),
        (lambda: Tree(down=(4, 0), up=(1, 2)), "over 0"),
        (lambda: Tree(down=(4, 4), up=(2, 2)), "one leaf in each of its planes"),
        (lambda: Tree(down=(4, 4), up=(1, 2), planes=0), "0 planes"),
        (lambda: Tree(down=(4, 4), up=(1, 2), nic_bytes_per_s=0.0), "0 bytes/s"),
        (lambda: full_tree(7, 2), "even radix"),
        (lambda: full_tree(8, 2, taper=0.3), "whole uplinks"),
        (lambda: rail_optimised(full_tree(8, 2), 3, 1e9), "no whole number of groups of 3"),
    ],
)
def test_what_is_no_tree_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        asked()
