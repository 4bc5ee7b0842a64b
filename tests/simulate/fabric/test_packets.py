"""Packets one by one: exact queues, and the fluid that stands for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError, UnknownName
from crore.simulate.fabric.fluid import finish_s
from crore.simulate.fabric.graphs import torus
from crore.simulate.fabric.network import without
from crore.simulate.fabric.packets import Packets, fifo, send, unloaded_s
from crore.simulate.fabric.patterns import Flows, incast_of, permutation_of, ring_of
from crore.simulate.fabric.routes import every_path, hashed_paths, routes_of
from crore.simulate.fabric.trees import Tree, folded_clos

MB = 2**20
TWO = folded_clos(Tree(down=(8, 8), up=(1, 8), nic_bytes_per_s=12.5e9))
THREE = folded_clos(Tree(down=(4, 4, 4), up=(1, 4, 4), nic_bytes_per_s=12.5e9))


def ratio(network, flows, paths, size, mode="round-robin"):
    """Time of the last packet over that of the fluid spread over all paths."""
    packets = Packets(message_bytes=size, mode=mode)
    every = every_path(network, flows)
    sizes = np.full(len(flows), float(size))
    fluid_s = finish_s(routes_of(network, flows, every), network.bytes_per_s, sizes).max()
    last_s = send(network, flows, paths, packets).max()
    return last_s / (fluid_s + unloaded_s(network, every, packets))


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


@pytest.mark.parametrize(("network", "hops"), [(TWO, 4), (THREE, 6)])
def test_a_message_alone_takes_its_packets_and_its_hops(network, hops):
    flows = Flows(source=np.array([0]), target=np.array([network.endpoints - 1]))
    packets = Packets(message_bytes=100 * 4096 - 5, hop_s=1e-6)
    taken = send(network, flows, every_path(network, flows), packets)
    assert taken[0] == pytest.approx((100 + hops - 1) * 4096 / 12.5e9 + hops * 1e-6, rel=1e-12)


def test_fifteen_into_one_take_turns():
    flows = incast_of(np.arange(16))
    packets = Packets(message_bytes=MB, hop_s=0.0)
    taken = send(TWO, flows, every_path(TWO, flows), packets)
    tx_s = 4096 / 12.5e9
    # Nothing but the last link is held up: it is busy from the first packet's arrival on.
    assert taken.max() == pytest.approx(15 * 256 * tx_s + tx_s, rel=1e-3)


@pytest.mark.parametrize("network", [TWO, THREE], ids=["two tiers", "three tiers"])
@pytest.mark.parametrize("size", [4 * MB, 16 * MB])
@pytest.mark.parametrize("pattern", ["ring", "permutation", "incast"])
def test_the_fluid_is_within_a_percent_of_packets_sprayed_in_turn(network, size, pattern):
    every = np.arange(network.endpoints)
    flows = {
        "ring": ring_of(every, 8),
        "permutation": permutation_of(every, 3),
        "incast": incast_of(every[:16]),
    }[pattern]
    assert ratio(network, flows, every_path(network, flows), size) == pytest.approx(1, abs=0.01)


def test_a_taper_keeps_within_a_percent_where_all_leaves_send_as_much():
    """Where they do not, a queue shares a full link by what arrives, and 1.6 % remain."""
    tapered = folded_clos(Tree(down=(8, 8), up=(1, 2), nic_bytes_per_s=12.5e9))
    far = np.random.default_rng(1).permutation(8)
    place = np.arange(64)
    shift = 1 + far[place % 8] % 7  # GPU k of every leaf to the same number of leaves on
    even = Flows(source=place, target=(place + 8 * shift) % 64)
    assert ratio(tapered, even, every_path(tapered, even), 4 * MB) == pytest.approx(1, abs=0.01)
    uneven = permutation_of(place, 3)
    gap = ratio(tapered, uneven, every_path(tapered, uneven), 16 * MB)
    assert 1.01 < gap < 1.02


def test_short_messages_take_longer_than_the_fluid():
    flows = permutation_of(np.arange(64), 3)
    assert 1.03 < ratio(TWO, flows, every_path(TWO, flows), MB // 4) < 1.15


def test_random_spraying_costs_a_few_percent_and_a_hash_per_flow_a_factor():
    flows = permutation_of(np.arange(64), 3)
    random = ratio(TWO, flows, every_path(TWO, flows), 4 * MB, mode="random")
    hashed = ratio(TWO, flows, hashed_paths(TWO, flows, 1), 4 * MB)
    assert 1.02 < random < 1.15
    assert 2.5 < hashed < 6


def test_the_fluid_on_hashed_paths_is_within_a_percent_of_their_packets():
    flows = permutation_of(np.arange(64), 3)
    paths = hashed_paths(TWO, flows, 1)
    sizes = np.full(64, 16.0 * MB)
    fluid_s = finish_s(routes_of(TWO, flows, paths), TWO.bytes_per_s, sizes).max()
    taken = send(TWO, flows, paths, Packets(message_bytes=16 * MB)).max()
    assert taken == pytest.approx(fluid_s, rel=0.01)


def test_dead_links_slow_packets_as_they_slow_the_fluid():
    hurt = without(TWO, cables=[(64, 72), (64, 73)])  # two of the first leaf's eight spines
    flows = ring_of(np.arange(64), 8)
    assert ratio(hurt, flows, every_path(hurt, flows), 4 * MB) == pytest.approx(1, abs=0.01)
    whole = send(TWO, flows, every_path(TWO, flows), Packets(message_bytes=4 * MB)).max()
    slow = send(hurt, flows, every_path(hurt, flows), Packets(message_bytes=4 * MB)).max()
    assert slow / whole == pytest.approx(8 / 6, rel=0.02)


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
