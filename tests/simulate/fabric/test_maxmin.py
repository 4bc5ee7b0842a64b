"""Rates are max-min fair: whoever wants more takes it from one who has no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulate.fabric.fabrics import dense, loaded

from crore.errors import InputError
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.routes import Routes


def routes(matrix):
    matrix = np.array(matrix, dtype=float)
    link, flow = np.nonzero(matrix)
    return Routes(
        links=matrix.shape[0],
        flows=matrix.shape[1],
        link=link,
        flow=flow,
        share=matrix[link, flow],
    )


def test_the_textbook_line():
    """One flow over both links, one over the first, two over the second of twice the capacity."""
    line = routes([[1, 1, 0, 0], [1, 0, 1, 1]])
    assert max_min(line, np.array([1.0, 2.0])).tolist() == [0.5, 0.5, 0.75, 0.75]


def test_a_demand_holds_one_flow_back_and_leaves_the_rest_to_others():
    shared = routes([[1, 1, 1]])
    wishes = np.array([0.5, np.inf, np.inf])
    assert max_min(shared, np.array([3.5]), wishes).tolist() == [0.5, 1.5, 1.5]


def test_a_sprayed_flow_is_as_fast_as_its_weakest_share():
    assert max_min(routes([[0.25], [0.75]]), np.array([1.0, 1.5])).tolist() == [2.0]


def test_no_path_and_no_capacity_give_nothing():
    assert max_min(routes([[0, 1], [0, 1]]), np.array([1.0, 0.0])).tolist() == [0.0, 0.0]


@given(case=loaded(), limited=st.booleans(), seed=st.integers(0, 999))
def test_every_flow_has_its_wish_or_a_full_link_on_which_none_is_faster(case, limited, seed):
    """Necessary and sufficient (Bertsekas and Gallager, 6.5.2), whatever the algorithm."""
    network, _, found = case
    demand = np.full(found.flows, np.inf)
    if limited:
        demand = np.random.default_rng(seed).uniform(1e8, 1e11, found.flows)
    rate = max_min(found, network.bytes_per_s, demand)
    shares = dense(found)
    load = shares @ rate
    assert (load <= network.bytes_per_s * (1 + 1e-9)).all()
    full = (load >= network.bytes_per_s * (1 - 1e-9)) & (shares.sum(axis=1) > 0)
    fastest = np.where(shares > 0, rate, 0.0).max(axis=1)
    bound = full & (shares.T > 0) & (rate[:, None] >= fastest * (1 - 1e-9))
    routed = shares.sum(axis=0) > 0
    assert (rate[~routed] == 0).all()
    assert (bound.any(axis=1) | (rate >= demand * (1 - 1e-12)))[routed].all()


@given(case=loaded())
def test_the_slowest_flow_is_held_by_the_link_with_the_least_capacity_for_its_load(case):
    network, _, found = case
    load = dense(found).sum(axis=1)
    if len(found.flow):
        slowest = max_min(found, network.bytes_per_s)[found.flow].min()
        bound = (network.bytes_per_s[load > 0] / load[load > 0]).min()
        assert slowest == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize(
    ("capacity", "demand", "message"),
    [
        ([1.0, 1.0], None, "1 links and 2 flows with 2 capacities and 2 demands"),
        ([1.0], [1.0], "with 1 capacities and 1 demands"),
        ([-1.0], None, "0 or more"),
        ([float("nan")], None, "0 or more"),
        ([1.0], [1.0, -1.0], "0 or more"),
        ([np.inf], None, "neither a demand nor a link of limited capacity"),
    ],
)
def test_what_is_no_network_is_refused(capacity, demand, message):
    wish = None if demand is None else np.array(demand)
    with pytest.raises(InputError, match=message):
        max_min(routes([[1, 1]]), np.array(capacity), wish)
