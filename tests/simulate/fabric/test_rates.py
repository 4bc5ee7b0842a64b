"""Rates on the classes of a fleet are those of all its flows, one by one and link by link."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crore.simulate.fabric.components import Frailty
from crore.simulate.fabric.fleet import FleetStep, States, island_states
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import without
from crore.simulate.fabric.patterns import Flows
from crore.simulate.fabric.quotient import max_min_by_classes
from crore.simulate.fabric.rates import fleet_rates
from crore.simulate.fabric.routes import Routes, spray
from crore.simulate.fabric.trees import Tree, folded_clos

SMALL = FleetStep(
    islands=1, worlds=3, world_gpus=16, compute_s=1.0, world_bytes=1.0, nic_bytes_per_s=100e9,
    planes=3, leaf_gpus=4, uplinks=2,
    frailty=Frailty(dead_plane_share=0.05, dead_switch_share=0.03, dead_uplink_share=0.05),
)  # fmt: skip


def fleet(**changes):
    return replace(SMALL, **changes)


def one_by_one(spec: FleetStep, states: States, gpus: int):
    """Every flow over its own link, a leaf up and a leaf down, in plain loops."""
    dead = set(np.r_[states.links, states.under_dead].tolist())
    leaves = len(states.leaves.uplinks)
    link = spec.nic_bytes_per_s / spec.planes
    capacity = [0.0] * gpus
    entries = []
    for gpu in range(gpus):
        partner = (gpu + spec.leaf_gpus * spec.rails) % gpus
        planes = [
            p
            for p in range(spec.planes)
            if not {gpu * spec.planes + p, partner * spec.planes + p} & dead
        ]
        capacity[gpu] = len(planes) * link
        leaf, other = (
            g // spec.rails // spec.leaf_gpus * spec.rails + g % spec.rails for g in (gpu, partner)
        )
        entries += [(gpu, gpu), (gpus + leaf, gpu), (gpus + leaves + other, gpu)]
    links, flows = (np.array(column) for column in zip(*entries, strict=True))
    fat = states.leaves.uplinks * link if spec.uplinks else np.full(leaves, 1e30)
    routes = Routes(
        links=gpus + 2 * leaves, flows=gpus, link=links, flow=flows, share=np.ones(len(links))
    )
    return routes, np.r_[capacity, fat, fat]


@settings(max_examples=200)
@given(
    seed=st.integers(0, 9999),
    worlds=st.integers(1, 4),
    rails=st.sampled_from([1, 2]),
    uplinks=st.sampled_from([0, 2, 4]),
)
def test_rates_of_classes_equal_those_of_all_flows_within_1e_12(seed, worlds, rails, uplinks):
    spec = fleet(worlds=worlds, rails=rails, uplinks=uplinks)
    states = island_states(
        spec, np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0]), worlds
    )
    routes, capacity = one_by_one(spec, states, spec.gpus)
    brute = np.sort(max_min(routes, capacity))
    found = fleet_rates(spec, seed)
    assert found.flows.sum() == spec.gpus
    rates = np.sort(np.repeat(found.bytes_per_s, found.flows))
    np.testing.assert_allclose(rates, brute, rtol=1e-12)
    refined = np.sort(max_min_by_classes(routes, capacity))
    np.testing.assert_allclose(refined, brute, rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_network_with_dead_links_at_its_gpus_has_those_rates_link_by_link(seed):
    """Six leaves of eight, non-blocking, four planes: what one GPU loses none other does."""
    frail = Frailty(dead_plane_share=0.02, dead_switch_share=0.0, dead_uplink_share=0.0)
    spec = fleet(worlds=6, world_gpus=8, leaf_gpus=8, uplinks=8, planes=4, frailty=frail)
    states = island_states(spec, np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0]), 6)
    hall = folded_clos(Tree(down=(8, 6), up=(1, 8), planes=4, nic_bytes_per_s=100e9))
    cut = []
    for gpu, plane in zip(states.links // 4, states.links % 4, strict=True):
        at = (hall.source == gpu) & (hall.plane == plane)
        cut.append((int(gpu), int(hall.target[at][0])))
    hurt = without(hall, cables=cut)
    flows = Flows(source=np.arange(48), target=(np.arange(48) + 8) % 48)
    explicit = np.sort(max_min(spray(hurt, flows), hurt.bytes_per_s))
    found = fleet_rates(spec, seed)
    rates = np.sort(np.repeat(found.bytes_per_s, found.flows))
    np.testing.assert_allclose(rates, explicit, rtol=1e-12)
    assert len(states.links) == 0 or rates[0] < 100e9


def test_quantiles_count_flows():
    found = fleet_rates(fleet(uplinks=4), 1)
    rates = np.sort(np.repeat(found.bytes_per_s, found.flows))
    for share in (0.01, 0.3, 0.5, 1.0):
        assert found.quantile(share) == rates[max(int(np.ceil(share * len(rates))) - 1, 0)]


def test_rates_of_ten_million_flows_take_under_five_cpu_seconds_and_two_gigabytes():
    script = (
        "import resource, time\n"
        "from crore.simulate.fabric import FleetStep, fleet_rates\n"
        "before = time.process_time()\n"
        "fleet = FleetStep(islands=1, worlds=2171, world_gpus=4608, domain_gpus=72,\n"
        "  compute_s=8.0, world_bytes=40e9, nic_bytes_per_s=100e9, planes=8, leaf_gpus=512,\n"
        "  uplinks=128)\n"
        "found = fleet_rates(fleet)\n"
        "assert found.flows.sum() == fleet.gpus > 10_000_000\n"
        "print(time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert float(said[0]) <= 5
    assert float(said[1]) * 1024 <= 2e9
