"""A step of a fleet: closed forms for each cause, and the network it collapses, link by link."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from crore.cost.stragglers import expected_maximum
from crore.errors import InputError
from crore.simulate.fabric.components import Frailty
from crore.simulate.fabric.fleet import CAUSES, FleetStep, fleet_step, network_rate
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import random_failures, without
from crore.simulate.fabric.patterns import ring_of
from crore.simulate.fabric.routes import spray
from crore.simulate.fabric.trees import Tree, folded_clos

SOUND = Frailty(
    noise=0.0, straggler_share=0.0, dead_plane_share=0.0, dead_switch_share=0.0,
    dead_uplink_share=0.0, dead_pair_share=0.0,
)  # fmt: skip
FLEET = FleetStep(
    islands=10, worlds=100, world_gpus=1152, domain_gpus=72, compute_s=8.0, world_bytes=40e9,
    island_bytes=10e9, nic_bytes_per_s=100e9, planes=8, leaf_gpus=512, uplinks=512, frailty=SOUND,
)  # fmt: skip


def with_(**changes):
    frail = {k: v for k, v in changes.items() if hasattr(SOUND, k)}
    other = {k: v for k, v in changes.items() if k not in frail}
    return replace(FLEET, frailty=replace(SOUND, **frail), **other)


def test_without_jitter_or_failure_all_islands_take_compute_and_bytes_over_bandwidth():
    result = fleet_step(FLEET)
    assert result.ideal_s == pytest.approx(8 + 0.4 + 0.1)
    assert (result.island_s == result.ideal_s).all()
    assert all((result.delay_s[cause] == 0).all() for cause in CAUSES)
    assert result.slowed_by() == dict.fromkeys(CAUSES, 0.0)


@pytest.mark.parametrize(
    ("changes", "ideal_s"),
    [
        ({"hidden_s": 0.3}, 8 + 0.1 + 0.1),
        ({"hidden_s": 0.45}, 8 + 0.05),
        ({"hidden_s": 2.0}, 8),
        ({"uplinks": 128}, 8 + 1.6 + 0.4),  # a quarter of the uplinks, everything leaves
        ({"uplinks": 128, "leaving": 0.5}, 8 + 0.8 + 0.2),
        ({"uplinks": 128, "leaving": 0.1}, 8 + 0.4 + 0.1),
        ({"uplinks": 0}, 8 + 0.4 + 0.1),
    ],
)
def test_compute_hides_messages_and_taper_slows_what_leaves(changes, ideal_s):
    assert fleet_step(with_(**changes)).ideal_s == pytest.approx(ideal_s)


def test_jitter_costs_the_expected_largest_of_an_island():
    """115,200 GPUs on ten islands, forty seeds; Gumbel's limit is good to a percent."""
    spec = with_(noise=0.01)
    waits = np.concatenate([fleet_step(spec, seed).delay_s["noise"] for seed in range(40)])
    expected = 0.01 * 8 * float(expected_maximum(11_520.0))
    assert waits.mean() == pytest.approx(expected, rel=0.01)


def test_stragglers_hit_as_many_islands_as_have_one():
    spec = with_(straggler_share=1e-4)
    waits = np.concatenate([fleet_step(spec, seed).delay_s["straggler"] for seed in range(60)])
    hit = waits > 0
    likely = 1 - (1 - 1e-4) ** 11_520
    assert abs(hit.mean() - likely) < 4 * (likely * (1 - likely) / len(hit)) ** 0.5
    assert waits[hit] == pytest.approx(0.3 * 8)
    assert fleet_step(spec).slowed_by()["straggler"] == (fleet_step(spec).island_s > 8.6).mean()


def test_a_dead_plane_costs_its_world_a_share_of_the_bandwidth():
    spec = with_(dead_plane_share=2e-5, islands=100)
    waits = np.concatenate([fleet_step(spec, seed).delay_s["dead plane"] for seed in range(10)])
    hit = waits > 0
    # A world of 1,152 GPUs with eight links each.
    likely = 1 - (1 - 2e-5) ** (1152 * 8)
    assert abs(hit.mean() - likely) < 4 * (likely * (1 - likely) / len(hit)) ** 0.5
    assert np.median(waits[hit]) == pytest.approx(0.5 * (8 / 7 - 1))


def test_without_planes_to_spare_a_dead_link_stops_its_world_and_the_island_goes_on():
    spec = with_(dead_plane_share=2e-4, planes=1)
    results = [fleet_step(spec, seed) for seed in range(40)]
    lost = np.concatenate([result.lost_worlds for result in results]).mean() / 10
    likely = 1 - (1 - 2e-4) ** 1152
    assert abs(lost - likely) < 4 * (likely * (1 - likely) / 4000) ** 0.5
    assert all((result.island_s == result.ideal_s).all() for result in results)
    ruined = fleet_step(with_(dead_plane_share=0.1, planes=1))
    assert np.isinf(ruined.island_s).all()
    assert math.isinf(ruined.round_s)
    assert (ruined.lost_worlds == 10).all()
    assert all((ruined.delay_s[cause] == 0).all() for cause in CAUSES)


def test_a_dead_leaf_switch_costs_all_under_it_a_plane():
    """Four worlds and 18 GPUs under the 512 of a leaf: leaves are 23 of eight planes an island."""
    spec = with_(dead_switch_share=1e-3, uplinks=0)
    results = [fleet_step(spec, seed) for seed in range(40)]
    waits = np.concatenate([result.delay_s["dead switch"] for result in results])
    hit = waits > 0
    likely = 1 - (1 - 1e-3) ** (23 * 8)
    assert abs(hit.mean() - likely) < 4 * (likely * (1 - likely) / 400) ** 0.5
    assert np.median(waits[hit]) == pytest.approx(0.5 * (8 / 7 - 1))
    one = next(result for result in results if result.dead_leaf_switches == 1)
    assert one.degraded_gpus in (512, 11_520 - 22 * 512)  # the last leaf is not full


def test_dead_uplinks_cost_most_where_there_are_few():
    spec = with_(dead_uplink_share=0.01, uplinks=128)
    result = fleet_step(spec)
    assert (result.delay_s["dead uplink"] > 0).all()
    whole = fleet_step(with_(dead_uplink_share=0.01, uplinks=128, leaving=0.1))
    assert (whole.delay_s["dead uplink"] == 0).all()
    # 23 leaves of 1,024 uplinks on each of ten islands.
    assert result.dead_uplinks == pytest.approx(230 * 1024 * 0.01, rel=0.1)


def test_a_dead_switch_above_costs_an_uplink_of_every_leaf_and_is_told_from_dead_links():
    spec = with_(dead_switch_share=0.01, uplinks=128)
    result = fleet_step(spec)
    assert (result.delay_s["dead switch"] > 0).all()
    assert (result.delay_s["dead uplink"] == 0).all()
    assert result.dead_uplinks == 0


def test_an_island_waits_for_the_worst_of_all_its_leaves_whatever_the_rails():
    """184 leaves of 64 GPUs in groups of eight, or 180 on their own: nearly as many to be worst."""
    means = []
    for rails in (1, 8):
        spec = with_(dead_uplink_share=0.02, leaf_gpus=64, uplinks=16, rails=rails)
        waits = [fleet_step(spec, seed).delay_s["dead uplink"] for seed in range(20)]
        means.append(np.mean(waits))
    assert means[1] == pytest.approx(means[0], rel=0.05)


def test_an_outer_step_takes_the_fibre_pairs_that_are_left():
    spec = with_(outer_bytes=6e12, wan_bytes_per_s=1e12, wan_pairs=3, local_steps=50)
    whole = fleet_step(spec)
    assert (whole.outer_s == 6).all()
    assert whole.round_s == pytest.approx(50 * 8.5 + 6)
    assert fleet_step(replace(spec, outer_hidden=1.0)).round_s == pytest.approx(50 * 8.5)
    assert fleet_step(replace(spec, outer_hidden=0.01)).round_s == pytest.approx(425 + 6 - 4.25)
    some = fleet_step(replace(spec, frailty=replace(SOUND, dead_pair_share=0.4)), 1)
    assert set(some.outer_s) <= {6.0, 9.0, 18.0, math.inf}
    assert some.round_s == pytest.approx(425 + some.outer_s[np.isfinite(some.outer_s)].max())


def test_a_seed_gives_one_fleet_and_an_island_does_not_depend_on_the_others():
    spec = replace(FLEET, frailty=Frailty())
    one, again = fleet_step(spec, 3), fleet_step(spec, 3)
    assert (one.island_s == again.island_s).all()
    assert (one.island_s != fleet_step(spec, 4).island_s).any()
    fewer = fleet_step(replace(spec, islands=4, worlds=40), 3)
    assert (fewer.island_s == one.island_s[:4]).all()


def test_delays_add_up_and_quantiles_are_islands():
    result = fleet_step(replace(FLEET, worlds=104, frailty=Frailty(straggler_share=1e-4)), 5)
    total = result.ideal_s + sum(result.delay_s[cause] for cause in CAUSES)
    assert total == pytest.approx(result.island_s)
    assert result.step_s == result.quantile_s(1.0) >= result.quantile_s(0.5)
    assert replace(FLEET, worlds=104).island_worlds.tolist() == [11] * 4 + [10] * 6
    assert sum(result.slowed_by().values()) == pytest.approx(1)


# The network link by link: leaves of 8 GPUs, 4 uplinks, 2 planes; every flow leaves its leaf.
SMALL = Tree(down=(8, 6), up=(1, 4), planes=2, nic_bytes_per_s=100e9)
HALL = folded_clos(SMALL)
LEAVING = ring_of(np.arange(48), 8)


def small(uplinks):
    return replace(FLEET, leaf_gpus=8, uplinks=uplinks, planes=2)


def slowest(network):
    return max_min(spray(network, LEAVING), network.bytes_per_s).min()


def test_collapsed_rates_are_those_of_every_link_when_one_leaf_has_lost_uplinks():
    first_leaf, first_spine = 48, 54
    for dead in range(4):
        hurt = without(HALL, cables=[(first_leaf, first_spine + i) for i in range(dead)])
        rate = float(network_rate(small(4), 2, 8 - dead))
        assert slowest(hurt) == pytest.approx(rate, rel=1e-12)


def test_collapsed_rates_are_those_of_every_link_when_switches_are_dead():
    """A leaf's switch of one plane; one above, which takes an uplink of every leaf."""
    leaf_dead = without(HALL, nodes=[48])
    assert slowest(leaf_dead) == pytest.approx(float(network_rate(small(4), 1, 4)), rel=1e-12)
    above_dead = without(HALL, nodes=[54])
    assert slowest(above_dead) == pytest.approx(float(network_rate(small(4), 2, 7)), rel=1e-12)


def test_collapsed_rates_are_those_of_every_link_when_a_gpu_has_lost_a_plane():
    full = folded_clos(replace(SMALL, up=(1, 8)))
    leaf = int(full.target[(full.source == 3) & (full.plane == 1)][0])
    hurt = without(full, cables=[(3, leaf)])
    rates = max_min(spray(hurt, LEAVING), hurt.bytes_per_s)
    assert rates.min() == pytest.approx(float(network_rate(small(8), 1, 16)), rel=1e-12)
    # Those that send to it and come from it; the leaf's other GPUs lose nothing.
    assert (rates < 100e9 * (1 - 1e-9)).sum() == 2


def test_many_dead_uplinks_at_once_make_collapsed_rates_too_high_by_those_at_the_other_end():
    """A flow needs a spine alive at both ends; the collapsed leaf counts its own side."""
    gaps = []
    for seed in range(40):
        hurt = random_failures(HALL, 0.02, seed)
        at_hosts = HALL.source < 48
        at_hosts |= HALL.target < 48
        hurt = replace(hurt, bytes_per_s=np.where(at_hosts, HALL.bytes_per_s, hurt.bytes_per_s))
        up = (hurt.source >= 48) & (hurt.source < 54) | (hurt.source >= 58) & (hurt.source < 64)
        up &= (hurt.target >= 48) & (hurt.bytes_per_s > 0)
        leaf = hurt.source[up] - 48
        leaf = np.where(leaf >= 10, leaf - 10, leaf)
        weakest = np.bincount(leaf, minlength=6).min()
        gaps.append(float(network_rate(small(4), 2, weakest)) / slowest(hurt) - 1)
    assert min(gaps) > -1e-9
    assert np.mean(gaps) < 0.1


def test_ten_million_gpus_take_under_five_cpu_seconds_and_two_gigabytes():
    script = (
        "import resource, time\n"
        "from crore.simulate.fabric import FleetStep, fleet_step\n"
        "before = time.process_time()\n"
        "fleet = FleetStep(islands={}, worlds=2171, world_gpus=4608, domain_gpus=72,\n"
        "  compute_s=8.0, world_bytes=40e9, nic_bytes_per_s=100e9, planes=8, leaf_gpus=512,\n"
        "  uplinks=512)\n"
        "found = fleet_step(fleet)\n"
        "assert fleet.gpus > 10_000_000 and found.stragglers > 0 and found.degraded_gpus > 0\n"
        "print(time.process_time() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    for islands in (1, 20):
        command = [sys.executable, "-c", script.format(islands)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert float(said[0]) <= 5
        assert float(said[1]) * 1024 <= 2e9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"islands": 0}, "islands is 1 or more, not 0"),
        ({"compute_s": -1.0}, "compute_s is 0 or more"),
        ({"compute_s": math.nan}, "compute_s is 0 or more"),
        ({"worlds": 5}, "10 islands want a world each, not 5"),
        ({"nic_bytes_per_s": 0.0}, "over 0 bytes/s"),
        ({"planes": 63}, "1 to 62 planes"),
        ({"leaving": 1.5}, "are shares"),
        ({"outer_bytes": 1.0}, "wan_bytes_per_s over 0"),
    ],
)
def test_what_is_no_fleet_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(FLEET, **changes)
