"""Failures take capacity away and leave the numbering alone."""

from __future__ import annotations

import numpy as np
import pytest

from crore.errors import InputError
from crore.simulate.fabric.network import Cables, network_of, random_failures, without
from crore.simulate.fabric.trees import folded_clos, full_tree

TRIANGLE = network_of(
    "triangle", 0, 3, [Cables(ends=(np.array([0, 1, 2]), np.array([1, 2, 0])), bytes_per_s=2.0)]
)


def alive(network):
    return {
        (int(a), int(b))
        for a, b, c in zip(network.source, network.target, network.bytes_per_s, strict=True)
        if c > 0
    }


def test_a_cable_is_a_link_each_way():
    assert alive(TRIANGLE) == {(0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2)}
    assert np.bincount(TRIANGLE.cable).tolist() == [2, 2, 2]


def test_a_dead_cable_is_dead_both_ways_and_keeps_its_number():
    hurt = without(TRIANGLE, cables=[(2, 1)])
    assert alive(hurt) == {(0, 1), (1, 0), (2, 0), (0, 2)}
    assert (hurt.source == TRIANGLE.source).all()


def test_a_dead_node_takes_its_cables_with_it():
    assert alive(without(TRIANGLE, nodes=[0])) == {(1, 2), (2, 1)}


def test_random_failures_take_that_share_both_ways_and_the_same_for_a_seed():
    hall = folded_clos(full_tree(32, 2))
    hurt = random_failures(hall, 0.2, 7)
    dead = hurt.bytes_per_s == 0
    # 1,024 cables: 0.2 within four standard deviations.
    assert abs(dead.mean() - 0.2) < 4 * (0.2 * 0.8 / (hall.links / 2)) ** 0.5
    assert set(np.bincount(hall.cable[dead], minlength=hall.links // 2)) == {0, 2}
    assert (random_failures(hall, 0.2, 7).bytes_per_s == hurt.bytes_per_s).all()
    assert (random_failures(hall, 0.2, 8).bytes_per_s != hurt.bytes_per_s).any()
    assert (random_failures(hall, 0.0, 7).bytes_per_s == hall.bytes_per_s).all()


@pytest.mark.parametrize(("end", "rate"), [(3, 1.0), (-1, 1.0), (1, -1.0), (1, float("inf"))])
def test_ends_are_nodes_and_capacities_are_capacities(end, rate):
    with pytest.raises(InputError, match="ends are nodes"):
        network_of("x", 0, 3, [Cables(ends=(np.array([0]), np.array([end])), bytes_per_s=rate)])
