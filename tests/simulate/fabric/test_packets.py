"""Packets one by one: exact queues, and the fluid that stands for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError, UnknownName
from crore.simulate.fabric.graphs import torus
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import without
from crore.simulate.fabric.packets import Packets, fifo, send
from crore.simulate.fabric.patterns import Flows, incast_of, permutation_of, ring_of
from crore.simulate.fabric.routes import every_path, routes_of
from crore.simulate.fabric.trees import Tree, folded_clos

MB = 2**20
PLANE = 12.5e9
TWO = folded_clos(Tree(down=(8, 8), up=(1, 8), nic_bytes_per_s=PLANE))
THREE = folded_clos(Tree(down=(4, 4, 4), up=(1, 4, 4), nic_bytes_per_s=PLANE))
FOUR = folded_clos(Tree(down=(8, 8), up=(1, 8), planes=4, nic_bytes_per_s=4 * PLANE))


def served(arrival_s, link, tx_s):
    """The queue as one would write it down."""
    free: dict[int, float] = {}
    out = np.zeros(len(link))
    for i in sorted(range(len(link)), key=lambda i: (arrival_s[i], i)):
        out[i] = max(arrival_s[i], free.get(link[i], 0.0)) + tx_s[i]
        free[link[i]] = out[i]
    return out


@given(
    packets=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50)), min_size=1, max_size=60),
    tx_s=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=6, max_size=6),
)
def test_queues_in_one_piece_equal_queues_one_by_one(packets, tx_s):
    link = np.array([link for link, _ in packets])
    arrival_s = np.array([float(at) for _, at in packets])
    each_s = np.array(tx_s)[link]
    np.testing.assert_allclose(
        fifo(arrival_s, link, each_s), served(arrival_s, link, each_s), rtol=1e-12
    )


@pytest.mark.parametrize(("network", "hops", "planes"), [(TWO, 4, 1), (THREE, 6, 1), (FOUR, 4, 4)])
def test_a_message_alone_takes_its_packets_and_its_hops(network, hops, planes):
    flows = Flows(source=np.array([0]), target=np.array([network.endpoints - 1]))
    packets = Packets(message_bytes=100 * 4096 - 5, hop_s=1e-6)
    taken = send(network, flows, every_path(network, flows), packets)
    assert taken[0] == pytest.approx((99 / planes + hops) * 4096 / PLANE + hops * 1e-6, rel=1e-12)


def test_fifteen_into_one_take_turns():
    flows = incast_of(np.arange(16))
    packets = Packets(message_bytes=MB, hop_s=0.0)
    taken = send(TWO, flows, every_path(TWO, flows), packets)
    tx_s = 4096 / PLANE
    # Nothing but the last link is held up: it is busy from the first packet's arrival on.
    assert taken.max() == pytest.approx(15 * 256 * tx_s + tx_s, rel=1e-12)


@pytest.mark.parametrize("planes", [1, 4])
@pytest.mark.parametrize("uplinks", [1, 2, 4])
def test_paced_hosts_leave_no_queue_at_a_taper(uplinks, planes):
    """Each flow ends by its own rate, but for packets that meet: none waits for megabytes."""
    tree = Tree(down=(8, 8), up=(1, uplinks), planes=planes, nic_bytes_per_s=planes * PLANE)
    tapered = folded_clos(tree)
    flows = permutation_of(np.arange(64), 3)
    paths = every_path(tapered, flows)
    rate = max_min(routes_of(tapered, flows, paths), tapered.bytes_per_s)
    taken = send(tapered, flows, paths, Packets(message_bytes=MB, hop_s=0.0))
    late = (taken - MB / rate) / (4096 / PLANE)
    assert late.min() > -8  # the fluid lets a packet go at its flow's rate, an eighth of a plane
    assert late.max() < 4 * 8  # at each of four hops at most one packet of eight others


def test_no_path_never_ends_and_a_circle_of_links_is_refused():
    cut = without(TWO, nodes=[64])
    flows = ring_of(np.array([0, 9, 20]))
    taken = send(cut, flows, every_path(cut, flows), Packets(message_bytes=MB))
    assert np.isinf(taken).tolist() == [True, False, True]
    circle = torus((4, 4, 4), 6e9)
    around = permutation_of(np.arange(64), 1)
    with pytest.raises(InputError, match="in a circle"):
        send(circle, around, every_path(circle, around), Packets(message_bytes=MB))


@pytest.mark.parametrize(
    "change", [{"message_bytes": 0}, {"packet_bytes": 0}, {"hop_s": -1.0}, {"hop_s": float("nan")}]
)
def test_what_is_no_message_is_refused(change):
    with pytest.raises(InputError, match="a message and a packet have bytes"):
        Packets(**{"message_bytes": MB} | change)
    with pytest.raises(UnknownName):
        Packets(message_bytes=MB, mode="ecmp")  # type: ignore[arg-type]
