"""Collectives take what their formulas say, never less than the wires allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.collectives import (
    COLLECTIVES,
    Group,
    all_reduce_s,
    all_to_all_s,
    double_tree,
    gather_s,
    in_switch,
    point_to_point_s,
    recursive_doubling,
    ring,
)

GIGABYTE, RATE, LATENCY = 1e9, 100e9, 9.6e-6
"""A buffer, an 800 Gbit/s port, and NCCL's latency of a network hop (src/graph/tuning.cc)."""

groups = st.builds(
    lambda inner, outer, fast, slow, near, far, multicast: Group(
        ranks=float(inner * outer), inner=float(inner), inner_bytes_per_s=slow * fast,
        outer_bytes_per_s=slow, inner_latency_s=near, outer_latency_s=near + far,
        multicast=multicast,
    ),
    inner=st.integers(1, 72), outer=st.integers(1, 200_000), fast=st.floats(1.0, 20.0),
    slow=st.floats(1e9, 200e9), near=st.floats(1e-7, 1e-5), far=st.floats(0.0, 1e-4),
    multicast=st.booleans(),
)  # fmt: skip
plain_groups = groups.map(lambda group: replace(group, multicast=False))
buffers = st.floats(0.0, 1e11)
priced = st.sampled_from([*COLLECTIVES.values(), all_to_all_s])


def flat(ranks):
    """A group whose ranks are joined by the network alone."""
    return Group(
        ranks=float(ranks), inner=1.0, inner_bytes_per_s=RATE, outer_bytes_per_s=RATE,
        inner_latency_s=LATENCY, outer_latency_s=LATENCY,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ranks", "ring_ms", "doubling_ms", "tree_ms"),
    [
        (72, 21.09, 19.84, 20.12),
        (1024, 39.62, 20.17, 20.19),
        (16_384, 334.55, 20.27, 20.27),
        (131_072, 2536.56, 20.33, 20.33),
        (1_000_000, 19219.98, 20.38, 20.38),
        (10_000_000, 192019.98, 20.45, 20.45),
    ],
)
def test_an_all_reduce_of_a_gigabyte_takes_what_was_worked_by_hand(
    ranks, ring_ms, doubling_ms, tree_ms
):
    """Scatter and gather by ring or recursive doubling, and the double tree, at 100 GB/s."""
    wire = (GIGABYTE, float(ranks), RATE, LATENCY)
    assert 2e3 * ring(*wire) == pytest.approx(ring_ms, abs=0.006)
    assert 2e3 * recursive_doubling(*wire) == pytest.approx(doubling_ms, abs=0.006)
    assert 1e3 * double_tree(*wire) == pytest.approx(tree_ms, abs=0.006)
    assert 1e3 * all_reduce_s(flat(ranks), GIGABYTE) == pytest.approx(doubling_ms, abs=0.006)


@pytest.mark.parametrize(
    ("ranks", "ring_ms", "tree_ms"), [(72, 1.363, 0.118), (16_384, 314.554, 0.269)]
)
def test_eight_bytes_pay_latency_alone(ranks, ring_ms, tree_ms):
    wire = (8.0, float(ranks), RATE, LATENCY)
    assert 2e3 * ring(*wire) == pytest.approx(ring_ms, abs=0.001)
    assert 1e3 * double_tree(*wire) == pytest.approx(tree_ms, abs=0.001)


def test_a_switch_that_reduces_halves_the_traffic():
    """NVLink SHARP: 2 alpha + (1 + 1/n)·S/B, against 2(n-1)/n·S/B of a ring."""
    wire = (GIGABYTE, 8.0, 450e9, 1e-6)
    assert in_switch(*wire) == pytest.approx(2e-6 + 1.125 * GIGABYTE / 450e9)
    domain = Group(
        ranks=8.0, inner=8.0, inner_bytes_per_s=450e9, outer_bytes_per_s=50e9,
        inner_latency_s=1e-6, outer_latency_s=1e-5,
    )  # fmt: skip
    assert all_reduce_s(replace(domain, multicast=True), GIGABYTE) == in_switch(*wire)
    assert all_reduce_s(domain, GIGABYTE) == pytest.approx(2 * ring(*wire))


def test_a_switch_does_not_reach_beyond_its_domain():
    wide = replace(flat(64), inner=8.0, inner_bytes_per_s=450e9)
    assert all_reduce_s(replace(wide, multicast=True), GIGABYTE) == all_reduce_s(wide, GIGABYTE)


def test_one_rank_sends_nothing():
    for collective in ("all_gather", "reduce_scatter", "all_reduce"):
        assert COLLECTIVES[collective](flat(1), GIGABYTE) == 0
    assert all_to_all_s(flat(1), GIGABYTE) == 0


@given(collective=priced, group=groups, buffer=buffers, more=buffers)
def test_a_larger_buffer_never_takes_less(collective, group, buffer, more):
    assert collective(group, buffer + more) >= collective(group, buffer)


@given(collective=priced, group=plain_groups, buffer=buffers, times=st.integers(2, 50))
def test_more_domains_never_take_less(collective, group, buffer, times):
    larger = replace(group, ranks=group.ranks * times)
    assert collective(larger, buffer) >= collective(group, buffer) * (1 - 1e-12)


@given(
    collective=st.sampled_from([gather_s, all_reduce_s, all_to_all_s]),
    group=plain_groups,
    times=st.integers(2, 50),
)
def test_latency_grows_with_the_group(collective, group, times):
    larger = replace(group, ranks=group.ranks * times)
    assert collective(larger, 8.0) > collective(group, 8.0)


@given(group=groups, buffer=buffers)
def test_the_best_never_beats_the_wires(group, buffer):
    """A gather brings (n-1)/n of the buffer to every rank, a sum twice that without a switch."""
    n = group.ranks
    across = min(group.inner * group.outer_bytes_per_s, group.inner_bytes_per_s)
    rate = across if group.outer > 1 else group.inner_bytes_per_s
    bound = (n - 1) / n * buffer / rate * (1 - 1e-12)
    assert gather_s(group, buffer) >= bound
    switched = group.multicast and group.outer == 1
    assert all_reduce_s(group, buffer) >= (bound if switched else 2 * bound)


@given(group=plain_groups, buffer=buffers)
def test_a_sum_is_never_slower_than_scatter_and_gather(group, buffer):
    assert all_reduce_s(group, buffer) <= 2 * gather_s(group, buffer)


@given(group=plain_groups, buffer=buffers, copies=st.integers(1, 16))
def test_sending_once_per_domain_never_costs_more(group, buffer, copies):
    """DeepSeek-V3 §3.2: of k copies of a token, those for one domain cross the network once."""
    once = all_to_all_s(group, buffer, float(copies))
    assert once <= all_to_all_s(group, buffer) * (1 + 1e-12)
    across = (1 - 1 / group.outer) * buffer / group.outer_bytes_per_s
    assert once >= across / copies * (1 - 1e-12)


def test_eight_copies_over_four_domains_reach_nine_tenths_of_them():
    near = Group(
        ranks=32.0, inner=8.0, inner_bytes_per_s=1e15, outer_bytes_per_s=50e9,
        inner_latency_s=0.0, outer_latency_s=0.0,
    )  # fmt: skip
    # 4·(1 - (3/4)^8) = 3.6 domains see a token, three in four of them elsewhere.
    expected = 4 * (1 - 0.75**8) / 8 * 0.75 * GIGABYTE / 50e9
    assert all_to_all_s(near, GIGABYTE, 8.0) == pytest.approx(expected)


def test_a_neighbour_in_the_domain_is_reached_by_its_link():
    group = replace(flat(16), inner=16.0, inner_bytes_per_s=450e9, inner_latency_s=1e-6)
    assert point_to_point_s(group, GIGABYTE) == pytest.approx(1e-6 + GIGABYTE / 450e9)
    assert point_to_point_s(flat(16), GIGABYTE) == pytest.approx(LATENCY + GIGABYTE / RATE)


@given(group=groups, collective=priced)
def test_columns_are_priced_as_their_entries_are(group, collective):
    sizes = np.array([8.0, 1e6, 1e9])
    together = collective(group, sizes)
    assert together.tolist() == [float(collective(group, size)) for size in sizes]
