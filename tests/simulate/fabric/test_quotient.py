"""Rates on classes are the rates of all flows, whatever fails."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulate.fabric.fabrics import dense, loaded

from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import random_failures, without
from crore.simulate.fabric.patterns import Flows, permutation_of, ring_of
from crore.simulate.fabric.quotient import max_min_by_classes, quotient_of
from crore.simulate.fabric.routes import spray
from crore.simulate.fabric.trees import Tree, folded_clos

WISHES = st.sampled_from([None, (1e9,), (5e8, 3e9), (1e8, 2e9, np.inf)])


def wishes_of(levels, flows, seed):
    if levels is None:
        return None
    return np.random.default_rng(seed).choice(np.array(levels), size=flows)


@settings(max_examples=300)
@given(case=loaded(), levels=WISHES, seed=st.integers(0, 999))
def test_rates_on_the_quotient_equal_brute_force_within_1e_12(case, levels, seed):
    network, _, routes = case
    demand = wishes_of(levels, routes.flows, seed)
    brute = max_min(routes, network.bytes_per_s, demand)
    small = max_min_by_classes(routes, network.bytes_per_s, demand)
    np.testing.assert_allclose(small, brute, rtol=1e-12, atol=0)


@settings(max_examples=100)
@given(case=loaded(), levels=WISHES, seed=st.integers(0, 999))
def test_the_partition_is_equitable(case, levels, seed):
    network, _, routes = case
    demand = wishes_of(levels, routes.flows, seed)
    found = quotient_of(routes, network.bytes_per_s, demand)
    shares = dense(routes)
    flow_of, link_of = (np.eye(c.max() + 1)[c] for c in (found.flow_class, found.link_class))
    by_link, by_flow = shares @ flow_of, shares.T @ link_of
    for sums, classes in ((by_link, found.link_class), (by_flow, found.flow_class)):
        _, first = np.unique(classes, return_index=True)
        np.testing.assert_allclose(sums, sums[first][classes], rtol=1e-12, atol=1e-15)
    assert (network.bytes_per_s == network.bytes_per_s[found.links][found.link_class]).all()
    if demand is not None:
        assert (demand == demand[found.flows][found.flow_class]).all()
    np.testing.assert_allclose(dense(found.routes), by_link[found.links], rtol=1e-12, atol=1e-15)


HALL = Tree(down=(16, 32), up=(1, 8))
EVERY = np.arange(512)


def test_a_ring_on_512_hosts_is_one_class_of_flows_until_something_fails():
    hall, ring = folded_clos(HALL), ring_of(EVERY, 16)
    whole = quotient_of(spray(hall, ring), hall.bytes_per_s)
    assert (len(whole.flows), len(whole.links)) == (1, 2)  # of hosts, and between switches
    for leaf in (0, 5, 31):
        hurt = without(hall, cables=[(512 + leaf, 512 + 32)])
        classes = quotient_of(spray(hurt, ring), hurt.bytes_per_s)
        # Those that begin or end at that leaf have seven spines left, the others eight.
        assert np.bincount(classes.flow_class).tolist() in ([32, 480], [480, 32])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1])
def test_classes_are_fewer_than_flows_in_a_shifted_permutation(share):
    flows = Flows(source=EVERY, target=(EVERY + 16 * (1 + EVERY % 5)) % 512)
    hall = random_failures(folded_clos(HALL), share, 3)
    assert len(quotient_of(spray(hall, flows), hall.bytes_per_s).flows) <= 200


def test_a_random_permutation_is_hardly_symmetric():
    hall = folded_clos(HALL)
    flows = permutation_of(EVERY, 1)
    assert len(quotient_of(spray(hall, flows), hall.bytes_per_s).flows) > 300
