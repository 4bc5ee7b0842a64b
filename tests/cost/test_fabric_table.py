"""Published counts, and those of ten million endpoints of 800 Gb/s, to the integer."""

from __future__ import annotations

from fractions import Fraction

import pytest

from crore.cost.fabric import design

GBIT_400, GBIT_800 = 50e9, 100e9
TEN_MILLION = 10_000_000
CLOS_3, CLOS_4, CLOS_2 = {"tiers": 3}, {"tiers": 4}, {"tiers": 2}
RAILS = {"tiers": 2, "rails": 72}
TAPERED = {"taper": 0.25}
PLANES = {"planes": 8}
# Reach of one network, switches and optic ends of ten million endpoints, switches on a path.
FIVE = [
    ("clos", CLOS_3, 65_536, 781_250, 40_000_000, 5),
    ("clos", CLOS_4, 2_097_152, 1_093_750, 60_000_000, 7),
    ("clos", CLOS_3 | PLANES, 33_554_432, 781_250, 40_000_000, 5),
    ("clos", CLOS_3 | PLANES | TAPERED, 33_554_432, 312_500, 10_000_000, 5),
    ("clos", CLOS_2 | PLANES, 131_072, 468_750, 20_000_000, 3),
    ("clos", CLOS_2 | PLANES | TAPERED, 131_072, 234_375, 5_000_000, 3),
    ("rail-only", RAILS | PLANES, 9_437_184, 468_750, 20_000_000, 3),
    ("dragonfly", PLANES, 1_073_774_592, 625_000, 29_921_875, 4),
    ("slim-fly", PLANES, 17_519_860, 470_588, 20_058_824, 3),
    # q + 1 of q² + q + 1 switches are their own neighbours and spare a cable's end.
    ("polarfly", PLANES, 19_250_283, 473_373, 19_999_824, 3),
]
TEN = [
    ("clos", CLOS_3, 524_288, 390_625, 40_000_000, 5),
    ("clos", CLOS_4, 33_554_432, 546_875, 60_000_000, 7),
    ("clos", CLOS_3 | PLANES, 268_435_456, 390_625, 40_000_000, 5),
    ("clos", CLOS_3 | PLANES | TAPERED, 268_435_456, 156_250, 10_000_000, 5),
    ("clos", CLOS_2 | PLANES, 524_288, 234_375, 20_000_000, 3),
    ("clos", CLOS_2 | PLANES | TAPERED, 524_288, 117_188, 5_000_000, 3),
    ("rail-only", RAILS | PLANES, 37_748_736, 234_375, 20_000_000, 3),
    ("dragonfly", PLANES, 17_180_000_256, 312_500, 29_960_938, 4),
    ("slim-fly", PLANES, 135_475_872, 238_095, 20_029_762, 3),
    ("polarfly", PLANES, 155_603_373, 235_988, 19_999_956, 3),
]


@pytest.mark.parametrize(
    ("switch", "topology", "form", "reach", "switches", "ends", "diameter"),
    [("51.2t", *row) for row in FIVE] + [("102.4t", *row) for row in TEN],
)
def test_a_full_network_has_the_switches_and_optics_of_ten_million_in_proportion(
    switch, topology, form, reach, switches, ends, diameter
):
    full = design(topology, reach, GBIT_800, switch=switch, **form)
    assert full.max_endpoints == reach
    assert full.diameter == diameter
    # Rounded half up, as it is printed: 117,187.5 are 117,188.
    assert round_half_up(Fraction(full.switches * TEN_MILLION, reach)) == switches
    exact = Fraction(2 * full.links * TEN_MILLION, reach * full.planes)
    assert round_half_up(exact) == ends


def round_half_up(value):
    return int(value + Fraction(1, 2))


@pytest.mark.parametrize(
    ("switch", "reach", "switches", "ends"),
    [("51.2t", 274_726_912, 610_687, 9_618_321), ("102.4t", 4_345_298_944, 308_880, 3_822_394)],
)
def test_a_hyperx_is_cut_to_ten_million_and_rounded_up_in_each_plane(switch, reach, switches, ends):
    built = design("hyperx-3d", TEN_MILLION, GBIT_800, switch=switch, planes=8)
    assert built.max_endpoints == reach
    assert switches <= built.switches <= switches + 8
    # Each plane's switches and then its links are rounded up: at most 8·(links of a switch)/2.
    assert ends <= built.optic_ends < ends + 200


@pytest.mark.parametrize(
    ("gpus", "leaf", "spine", "core", "links"),
    [
        (512, 16, 8, 0, 512),
        (1_024, 32, 16, 0, 1_024),
        (2_048, 64, 32, 0, 2_048),
        (4_096, 128, 128, 64, 2 * 4_096),
        (8_192, 256, 256, 128, 2 * 8_192),
        (16_384, 512, 512, 256, 2 * 16_384),
    ],
)
def test_eight_rails_of_64_port_switches_are_those_of_a_superpod(gpus, leaf, spine, core, links):
    """NVIDIA DGX SuperPOD B200 reference architecture, larger component counts."""
    built = design("rail-optimised", gpus, GBIT_400, switch="25.6t", rails=8)
    assert (built.switches, built.links) == (leaf + spine + core, links)
    assert built.tiers == (3 if core else 2)
    assert built.pod_endpoints == gpus


def test_rails_multiply_what_is_under_the_leaves_of_a_group_and_whole_groups_are_built():
    size = (1_040, GBIT_400)
    clos = design("clos", *size, switch="25.6t", tiers=2, taper=0.5)
    railed = design("rail-optimised", *size, switch="25.6t", tiers=2, taper=0.5, rails=8)
    assert (clos.pod_endpoints, railed.pod_endpoints) == (42, 8 * 42)
    assert railed.links == clos.links
    # 130 servers at 42 or 43 a leaf: four groups of eight leaves, where 25 leaves would do.
    assert (clos.switches, railed.switches) == (25 + 9, 32 + 9)
    with pytest.raises(Exception, match="at most 2,016"):
        # Of 64 leaves nine groups of seven fit.
        design("rail-optimised", 2_017, GBIT_400, switch="25.6t", rails=7, tiers=2)
