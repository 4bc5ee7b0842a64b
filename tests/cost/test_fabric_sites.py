"""Sites over long distance: what joins them, beside what they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.fabric import design
from crore.cost.fabric_sites import over_sites
from crore.errors import InputError, UnknownName

SITE = design("clos", 500_000, 100e9, switch="102.4t", planes=8, tiers=2, taper=0.25)
TB = 1e12 / 8  # a terabit per second in bytes


def test_twenty_sites_in_a_ring_that_send_every_gradient():
    """69 Tb/s a link: three pairs of 32; routers carry it to two neighbours and from the site."""
    built = over_sites(SITE, 20, 69 * TB, 500.0)
    assert (built.endpoints, built.max_endpoints) == (10_000_000, 20 * SITE.max_endpoints)
    assert (built.wan_links, built.fibre_pairs) == (20, 60)
    assert built.switches == 20 * (SITE.switches + 3)  # 276 Tb/s on routers of 102.4
    assert built.coherent_ends == 20 * 2 * 69_000 // 800
    assert built.optic_ends == 20 * SITE.optic_ends + 2 * 20 * 2 * 69_000 // 800
    assert built.links == 20 * SITE.links
    assert built.diameter == 2 * 2 + 11  # ten sites on, eleven routers
    assert built.latency_s == pytest.approx(10 * 500 * 5e-6)
    # Two links between halves of five million GPUs of 800 Gb/s.
    assert built.bisection == pytest.approx(2 * 69e12 / (5e6 * 800e9))


def test_the_bill_of_sites_is_that_of_each_and_of_what_joins_them():
    built = over_sites(SITE, 3, 10 * TB, 100.0)
    lines = {item.name: item for item in built.bill_of_materials}
    site = {item.name: item.count for item in SITE.bill_of_materials}
    assert lines["nic"].count == 3 * site["nic"]
    assert lines["102.4t"].count == 3 * site["102.4t"] + 3
    assert lines["dsp"].count == 3 * site["dsp"] + 2 * 3 * 20_000 // 800
    assert lines["zr"].count == 3 * 20_000 // 800
    assert lines["pair-km"].count == 3 * 100
    assert built.price_usd.value == pytest.approx(sum(i.total_usd for i in lines.values()))
    assert built.power_w == pytest.approx(sum(i.power_w for i in lines.values()))
    assert built.price_usd.low < built.price_usd.value < built.price_usd.high


@pytest.mark.parametrize(
    ("shape", "sites", "links", "hops"),
    [("ring", 2, 1, 1), ("ring", 3, 3, 1), ("ring", 20, 20, 10), ("mesh", 2, 1, 1),
     ("mesh", 20, 190, 1)],
)  # fmt: skip
def test_a_ring_has_a_link_a_site_and_a_mesh_one_a_pair(shape, sites, links, hops):
    built = over_sites(SITE, sites, TB, 1_000.0, shape)
    assert built.wan_links == links
    assert built.latency_s == pytest.approx(hops * 5e-3)
    assert built.diameter == 4 + hops + 1


def test_long_distance_is_under_two_percent_of_the_price_of_ten_million():
    """Ten million GPUs, 30 T parameters, every gradient in 16 bits: 69 Tb/s a link."""
    built = over_sites(SITE, 20, 69 * TB, 500.0)
    alone = 20 * SITE.price_usd.value
    assert 0 < built.price_usd.value / alone - 1 < 0.02


@given(sites=st.integers(2, 60), terabits=st.floats(0.1, 1e4), km=st.floats(1, 1e4))
def test_a_mesh_never_has_less_of_anything_than_a_ring(sites, terabits, km):
    ring, mesh = (over_sites(SITE, sites, terabits * TB, km, s) for s in ("ring", "mesh"))
    assert mesh.wan_links >= ring.wan_links
    assert mesh.bisection >= ring.bisection * (1 - 1e-12)
    assert mesh.price_usd.value >= ring.price_usd.value
    assert mesh.diameter <= ring.diameter
    assert mesh.fibre_pairs * 32e12 / 8 >= mesh.wan_links * terabits * TB * (1 - 1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": 1}, "two and more, not 1"),
        ({"wan_bytes_per_s": 0.0}, "over 0"),
        ({"link_km": float("inf")}, "over 0"),
        ({"site": design("dragonfly", 5_000, 50e9, switch="25.6t")}, "a dragonfly has no top"),
    ],
)
def test_what_joins_no_sites_is_refused(change, message):
    asked = {"site": SITE, "sites": 3, "wan_bytes_per_s": TB, "link_km": 100.0} | change
    with pytest.raises(InputError, match=message):
        over_sites(**asked)
    with pytest.raises(UnknownName):
        over_sites(SITE, 3, TB, 100.0, "star")  # type: ignore[arg-type]
