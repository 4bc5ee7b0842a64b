"""Collectives as fluids: closed forms where nothing is broken, the weakest share where it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulate.fabric.fabrics import dense, loaded

from crore.cost.collectives import recursive_doubling, ring
from crore.simulate.fabric.fluid import collective_s, finish_s
from crore.simulate.fabric.graphs import torus
from crore.simulate.fabric.network import without
from crore.simulate.fabric.patterns import phases_of, ring_of
from crore.simulate.fabric.routes import Routes, spray
from crore.simulate.fabric.trees import Tree, folded_clos, full_tree

SIZE, RATE, LATENCY_S = 1e9, 50e9, 5e-6
HALL = folded_clos(full_tree(8, 2, planes=4))
EVERY = np.arange(HALL.endpoints)


@pytest.mark.parametrize("kind", ["ring", "halving-doubling"])
def test_an_all_reduce_on_a_whole_network_takes_its_closed_form(kind):
    form = {"ring": ring, "halving-doubling": recursive_doubling}[kind]
    taken = collective_s(HALL, phases_of(kind, EVERY, SIZE), latency_s=LATENCY_S)
    assert taken == pytest.approx(2 * form(SIZE, 32, RATE, LATENCY_S), rel=1e-12)


def test_an_all_to_all_on_a_whole_network_takes_its_closed_form():
    taken = collective_s(HALL, phases_of("all-to-all", EVERY, SIZE))
    assert taken == pytest.approx(31 / 32 * SIZE / RATE, rel=1e-12)


def test_taper_slows_what_leaves_the_leaf_alone():
    """Of halving-doubling's steps those of 4 and more ranks apart leave leaves of four."""
    hall = folded_clos(Tree(down=(4, 8), up=(1, 1), nic_bytes_per_s=RATE))
    taken = collective_s(hall, phases_of("halving-doubling", EVERY, SIZE))
    inside, leaving = 1 / 2 + 1 / 4, 1 / 8 + 1 / 16 + 1 / 32
    assert taken == pytest.approx(2 * (inside + 4 * leaving) * SIZE / RATE, rel=1e-12)
    near = collective_s(hall, phases_of("ring", EVERY, SIZE))
    assert near == pytest.approx(2 * 31 / 32 * SIZE / RATE, rel=1e-12)  # one flow a leaf leaves it


def test_a_dead_plane_slows_a_ring_by_its_share_and_two_do_not_add_where_they_are_the_same():
    one = without(HALL, planes=[2])
    phases = phases_of("ring", EVERY, SIZE)
    whole_s = collective_s(HALL, phases)
    assert collective_s(one, phases) == pytest.approx(whole_s * 4 / 3, rel=1e-12)
    leaf = next(t for t in HALL.target[HALL.source == 5])
    assert collective_s(without(HALL, cables=[(5, leaf)]), phases) == pytest.approx(
        whole_s * 4 / 3, rel=1e-12
    )


def test_a_torus_carries_a_ring_along_it_on_one_link_of_six():
    """Ring in the order of the chips: mostly one hop, so a sixth of a chip's bandwidth."""
    cube = torus((4, 4, 4), 6e9)
    taken = collective_s(cube, phases_of("ring", np.arange(64), SIZE))
    assert taken >= 2 * 63 / 64 * SIZE / 1e9 * (1 - 1e-12)


def test_partners_without_a_path_never_end():
    hall = without(HALL, planes=[0, 1, 2, 3])
    assert math.isinf(collective_s(hall, phases_of("ring", EVERY, SIZE)))


def test_short_messages_leave_their_share_to_the_long_ones():
    line = Routes(
        links=1,
        flows=3,
        link=np.zeros(2, dtype=np.int64),
        flow=np.array([0, 1]),
        share=np.ones(2),
    )
    ends = finish_s(line, np.array([1.0]), np.array([1.0, 3.0, 1.0]))
    assert ends.tolist() == [2.0, 4.0, math.inf]
    assert finish_s(line, np.array([0.0]), np.array([1.0, 0.0, 0.0])).tolist()[:2] == [
        math.inf,
        0.0,
    ]


@settings(max_examples=60)
@given(case=loaded(), seed=st.integers(0, 99))
def test_no_link_carries_more_than_its_capacity_in_the_time(case, seed):
    network, flows, routes = case
    sizes = np.random.default_rng(seed).choice([1e9, 2e9, 5e9], len(flows))
    ends = finish_s(routes, network.bytes_per_s, sizes)
    routed = dense(routes).sum(axis=0) > 0
    assert np.isfinite(ends[routed]).all()
    assert np.isinf(ends[~routed]).all()
    if routed.any():
        alone_s = (dense(routes) @ sizes)[routes.link] / network.bytes_per_s[routes.link]
        assert ends[routed].max() >= alone_s.max() * (1 - 1e-9)


def test_rates_of_one_step_end_it_when_all_are_equal():
    taken = finish_s(spray(HALL, ring_of(EVERY, 4)), HALL.bytes_per_s, np.full(32, SIZE))
    assert taken == pytest.approx(np.full(32, SIZE / RATE))
