"""Fabrics reach what a folded Clos of their radix reaches, and clusters fit on their fabrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.catalog.networks import build_cluster, build_fabric
from crore.errors import InputError, UnknownName

CATALOG = load_catalog()
GIVEN = {"source": "mine", "date": "2025"}
TREE = {"topology": "fat-tree", "tiers": 2, "radix": 64, **GIVEN}
BOX = {"accelerator": "h100", "gpus": 8, "fabric": "single-node", **GIVEN}


@pytest.mark.parametrize(
    ("name", "endpoints"),
    [
        ("fat-tree-400g", 65_536),  # DeepSeek-V3 hardware paper, three-tier row
        ("clos-8plane-2tier", 131_072),  # 512 ports, two tiers
        ("clos-8plane-2tier-100g", 524_288),
        ("clos-8plane-3tier", 33_554_432),
        ("rail-400g", 8 * 2_048),
    ],
)
def test_a_fabric_reaches_the_published_number_of_endpoints(name, endpoints):
    assert CATALOG.fabric(name).max_endpoints == endpoints


def test_a_tapered_fabric_differs_in_its_taper_alone():
    full, tapered = (CATALOG.fabric(f"clos-8plane-3tier{x}") for x in ("", "-tapered"))
    assert (full.taper, tapered.taper) == (1.0, 0.25)
    assert full.max_endpoints == tapered.max_endpoints


def test_every_fabric_says_where_it_is_from_and_where_its_latency_is_from():
    for name in CATALOG.fabrics():
        fabric = CATALOG.fabric(name)
        assert fabric.provenance.source
        if fabric.topology == "wan":
            # Light needs 5 us per km, so a WAN of under 100 us is no WAN.
            assert 1e-4 <= fabric.hop_latency_s <= 0.1
        else:
            assert fabric.hop_latency_s <= 1e-6


def test_link_rates_are_bytes_per_second():
    assert CATALOG.fabric("rail-400g").port_bytes_per_s == 50e9
    assert CATALOG.fabric("single-node").port_bytes_per_s == 0


def test_every_cluster_names_rows_that_exist_and_fits_on_its_fabric():
    for name in CATALOG.clusters():
        cluster = CATALOG.cluster(name)
        fabric = CATALOG.fabric(cluster.fabric)
        gpu = CATALOG.accelerator(cluster.accelerator)
        assert cluster.provenance.source
        if cluster.sites > 1:
            assert CATALOG.fabric(cluster.wan).topology == "wan"
        if fabric.topology == "none":
            assert cluster.gpus <= max(cluster.node_size, gpu.node_size)
        else:
            assert cluster.gpus / cluster.sites <= fabric.max_endpoints, name
            assert cluster.nic_bytes_per_s or gpu.nic_bytes_per_s, name


@pytest.mark.parametrize(
    ("name", "gpus", "nic_gb"),
    [
        ("dgx-h100-16k", 16_384, 0),
        ("jean-zay", 416, 6.25),
        ("selene", 4_480, 25),
        ("article-20k", 20_000, 25),
        ("ten-million-b200", 10_000_000, 100),
        ("one-3090", 1, 0),
    ],
)
def test_named_machines_have_their_published_size(name, gpus, nic_gb):
    cluster = CATALOG.cluster(name)
    assert cluster.gpus == gpus
    assert cluster.nic_bytes_per_s == nic_gb * 1e9


@pytest.mark.parametrize("kind", ["fabric", "cluster"])
def test_an_unknown_name_points_at_the_listing(kind):
    with pytest.raises(UnknownName, match=f"unknown {kind} 'nowhere'.*crore catalog {kind}s"):
        getattr(CATALOG, kind)("nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "no source"),
        ({"topology": "torus"}, "fat-tree"),
        ({"radix": None}, "radix"),
        ({"tiers": None}, "tiers"),
        ({"taper": 2}, "taper"),
        ({"taper": 0}, "taper"),
        ({"ports": 64}, "unknown key"),
    ],
)
def test_a_bad_fabric_is_refused_by_its_reason(change, message):
    row = {key: value for key, value in {**TREE, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        build_fabric("mine", row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"date": None}, "no date"),
        ({"gpus": 0}, "gpus"),
        ({"accelerator": None}, "accelerator"),
        ({"sites": 2}, "wan"),
        ({"wan": "wan-metro"}, "wan"),
        ({"gpu": "h100"}, "did you mean gpus"),
    ],
)
def test_a_bad_cluster_is_refused_by_its_reason(change, message):
    row = {key: value for key, value in {**BOX, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        build_cluster("mine", row)


@given(st.integers(1, 4), st.integers(1, 512))
def test_a_tier_more_reaches_radix_over_two_times_as_many(tiers, half):
    row = {**TREE, "radix": 2 * half}
    one = build_fabric("mine", {**row, "tiers": tiers})
    more = build_fabric("mine", {**row, "tiers": tiers + 1})
    assert more.max_endpoints == one.max_endpoints * half
