"""Shares of flows on links, and single paths by hash."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from tests.simulate.fabric.fabrics import dense, loaded

from crore.errors import InputError
from crore.simulate.fabric.network import without
from crore.simulate.fabric.patterns import Flows, ring_of
from crore.simulate.fabric.routes import every_path, hashed_paths, routes_of, spray
from crore.simulate.fabric.trees import folded_clos, full_tree

HALL = folded_clos(full_tree(8, 2))  # 32 hosts, leaves 32 to 39, spines 40 to 43


@settings(max_examples=100)
@given(case=loaded())
def test_what_a_flow_sends_arrives_and_nothing_is_lost_on_the_way(case):
    network, flows, routes = case
    shares = dense(routes)
    balance = np.zeros((network.nodes, len(flows)))
    np.add.at(balance, network.source, shares)
    np.add.at(balance, network.target, -shares)
    routed = shares.sum(axis=0) > 0
    every = np.flatnonzero(routed)
    balance[flows.source[every], every] -= 1
    balance[flows.target[every], every] += 1
    assert np.abs(balance).max(initial=0.0) < 1e-12
    assert (network.bytes_per_s[routes.link] > 0).all()


@settings(max_examples=60)
@given(case=loaded())
def test_spraying_is_even_over_all_shortest_paths(case):
    network, flows, _ = case
    few = Flows(source=flows.source[:40], target=flows.target[:40])
    listed = routes_of(network, few, every_path(network, few))
    np.testing.assert_allclose(dense(spray(network, few)), dense(listed), rtol=1e-12, atol=1e-15)


@settings(max_examples=60)
@given(case=loaded())
def test_a_hashed_path_is_one_of_the_shortest(case):
    network, flows, _ = case
    few = Flows(source=flows.source[:20], target=flows.target[:20])
    every = {(f, *p) for f, p in zip(every_path(network, few).flow,
             every_path(network, few).link.tolist(), strict=True)}  # fmt: skip
    hashed = hashed_paths(network, few, 3)
    assert {(f, *p) for f, p in zip(hashed.flow, hashed.link.tolist(), strict=True)} <= every
    assert len(np.unique(hashed.flow)) == len(hashed.flow)


def test_hashes_spread_flows_evenly_and_change_with_the_seed():
    flows = Flows(source=np.zeros(4000, dtype=np.int64), target=np.full(4000, 31))
    taken = hashed_paths(HALL, flows, 1).link[:, 1]
    counts = np.unique(taken, return_counts=True)[1]
    assert len(counts) == 4
    assert ((counts - 1000) ** 2 / 1000).sum() < 16.3  # chi squared of three, 99.9 %
    assert (hashed_paths(HALL, flows, 2).link[:, 1] != taken).mean() > 0.6


def test_connections_of_a_flow_hash_each_for_itself():
    flows = ring_of(np.arange(32), 4)
    paths = hashed_paths(HALL, flows, 1, connections=64)
    assert (np.bincount(paths.flow) == 64).all()
    share = dense(routes_of(HALL, flows, paths))
    even = dense(spray(HALL, flows))
    assert ((share > 0) == (even > 0)).all()  # 64 connections reach all four spines
    assert np.abs(share - even).max() < 0.25
    assert (dense(routes_of(HALL, flows, hashed_paths(HALL, flows, 1))).max(axis=0) == 1).all()
    with pytest.raises(InputError, match="a flow has a connection, not 0"):
        hashed_paths(HALL, flows, 1, connections=0)


def test_connections_leave_their_host_by_all_its_planes_in_turn():
    network = folded_clos(full_tree(8, 2, planes=3))
    flows = ring_of(np.arange(32), 4)
    first = hashed_paths(network, flows, 1, connections=6).link[:, 0].reshape(32, 6)
    assert (np.sort(network.plane[first], axis=1) == [0, 0, 1, 1, 2, 2]).all()
    begun = network.plane[hashed_paths(network, flows, 1).link[:, 0]]
    assert set(begun.tolist()) == {0, 1, 2}  # a flow of one connection is on any plane


def test_a_plane_with_fewer_uplinks_gets_less():
    """Two planes of two spines: with one uplink dead, one path of three is in that plane."""
    network = folded_clos(full_tree(4, 2, planes=2))
    leaf = network.target[network.source == 0][0]
    spine = max(network.target[network.source == leaf])
    hurt = without(network, cables=[(leaf, spine)])
    routes = spray(hurt, Flows(source=np.array([0]), target=np.array([7])))
    first = network.source[routes.link] == 0
    assert sorted(routes.share[first]) == [1 / 3, 2 / 3]


def test_paths_next_to_each_other_part_as_early_as_they_can():
    network = folded_clos(full_tree(4, 2, planes=2))
    paths = every_path(network, Flows(source=np.array([0]), target=np.array([7])))
    assert network.plane[paths.link[:, 0]].tolist() == [0, 1, 0, 1]


def test_without_a_path_a_flow_has_no_entry():
    cut = without(HALL, nodes=[32])
    routes = spray(cut, ring_of(np.array([0, 5, 9])))
    assert set(routes.flow) == {1}
    assert routes.flows == 3
    assert hashed_paths(cut, ring_of(np.array([0, 5, 9])), 0).flow.tolist() == [1]


def test_paths_of_other_flows_are_refused():
    paths = every_path(HALL, ring_of(np.arange(8)))
    with pytest.raises(InputError, match="paths of flow 7 of 2"):
        routes_of(HALL, ring_of(np.array([0, 1])), paths)
