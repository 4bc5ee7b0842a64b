"""A machine is its data sheet, for a format it has."""

from __future__ import annotations

import pytest

from crore.catalog import load_catalog
from crore.cost import machine_of
from crore.cost.machine import (
    BOX,
    HOME_NETWORK,
    HOST_CROSSINGS,
    PRECISIONS,
    machine_on_fabric,
    on_network,
    peak,
)
from crore.errors import MAX_MESSAGE_CHARS, InputError

CATALOG = load_catalog()


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [
        ("a100-sxm-80gb", "fp8"),
        ("a100-sxm-80gb", "nvfp4"),
        ("v100-sxm-32gb", "bf16"),
        ("h100-sxm", "nvfp4"),
        ("h100-sxm", "int3"),
    ],
)
def test_a_format_the_part_lacks_is_refused_with_those_it_has(gpu, precision):
    message = f"{gpu} has no {precision} peak.*it has fp32, fp16"
    with pytest.raises(InputError, match=message) as err:
        machine_of(CATALOG.accelerator(gpu), precision)
    assert len(str(err.value)) <= MAX_MESSAGE_CHARS


@pytest.mark.parametrize("gpu", sorted(CATALOG.accelerators()))
def test_every_accelerator_is_a_machine_in_every_format_it_has(gpu):
    accelerator = CATALOG.accelerator(gpu)
    for precision in PRECISIONS:
        try:
            rate = peak(accelerator, precision)
        except InputError:
            continue
        machine = machine_of(accelerator, precision)
        assert machine.linear_peak == rate > 0
        assert min(machine.half_peak, machine.memory_bytes, machine.nic_bytes_per_s) > 0
        assert machine.domain_size >= 1
        assert machine.domain_bytes_per_s > 0
        assert machine.watts_per_tflops > 0


def test_an_h100_has_its_dense_peaks_and_its_domain():
    machine = machine_of(CATALOG.accelerator("h100-sxm"), "fp8")
    assert machine.half_peak == pytest.approx(989.4e12, rel=1e-3)
    assert machine.linear_peak == pytest.approx(1979e12, rel=1e-3)
    assert (machine.domain_size, machine.narrow, machine.element_scale) == (8, 1, 1)


@pytest.mark.parametrize(
    ("precision", "narrow", "element_scale"),
    [("fp32", 0, 2), ("bf16", 0, 1), ("fp8", 1, 1), ("mxfp8", 1, 1), ("nvfp4", 2, 1)],
)
def test_formats_differ_in_width(precision, narrow, element_scale):
    machine = machine_of(CATALOG.accelerator("b200-sxm"), precision)
    assert (machine.narrow, machine.element_scale) == (narrow, element_scale)


def test_block_scaled_formats_need_units_for_four_bits():
    with pytest.raises(InputError, match="has no mxfp8 peak"):
        peak(CATALOG.accelerator("h100-sxm"), "mxfp8")


def test_a_server_may_be_smaller_than_the_makers():
    machine = machine_of(CATALOG.accelerator("h100-sxm"), "bf16", node_size=4)
    assert (machine.node_size, machine.domain_size) == (4, 4)


def test_a_rack_domain_is_wider_than_its_trays():
    machine = machine_of(CATALOG.accelerator("gb200-nvl72"), "bf16", node_size=4)
    assert (machine.node_size, machine.domain_size) == (4, 72)


def test_a_card_without_a_network_sits_in_a_box_on_ethernet():
    card = CATALOG.accelerator("rtx-3090")
    machine = machine_of(card, "bf16")
    assert (machine.node_size, machine.domain_size) == (BOX, BOX)
    assert machine.nic_bytes_per_s == HOME_NETWORK / BOX
    assert machine.domain_bytes_per_s == card.host_bytes_per_s / HOST_CROSSINGS


def test_a_stated_network_overrides_the_parts_own():
    machine = machine_of(CATALOG.accelerator("h100-sxm"), "bf16", nic_bytes_per_s=1e9)
    assert machine.nic_bytes_per_s == 1e9


@pytest.mark.parametrize("name", sorted(CATALOG.clusters()))
def test_a_cluster_brings_its_nodes_and_hops(name):
    cluster = CATALOG.cluster(name)
    accelerator, fabric = CATALOG.accelerator(cluster.accelerator), CATALOG.fabric(cluster.fabric)
    machine = machine_on_fabric(
        accelerator,
        fabric,
        "bf16",
        node_size=cluster.node_size,
        nic_bytes_per_s=cluster.nic_bytes_per_s,
    )
    if cluster.node_size:
        assert machine.node_size == cluster.node_size
    if cluster.nic_bytes_per_s:
        assert machine.nic_bytes_per_s == cluster.nic_bytes_per_s
    hops = max(2 * fabric.tiers - 1, 0)
    assert machine.hop_latency_s == pytest.approx(hops * fabric.hop_latency_s)


@pytest.mark.parametrize(
    ("name", "pod_size"),
    [
        ("fat-tree-400g", 32),  # half of 64 ports
        ("fat-tree-400g-oversubscribed", 56),  # 7 of 8
        ("rail-400g", 32 * 8),  # one GPU of each of 32 servers on every rail
    ],
)
def test_a_leaf_joins_its_down_ports_and_on_rails_those_of_every_rail(name, pod_size):
    fabric = CATALOG.fabric(name)
    machine = machine_on_fabric(CATALOG.accelerator("h100-sxm"), fabric, "bf16")
    assert machine.taper == fabric.taper
    assert machine.pod_size == pytest.approx(pod_size, rel=0.001)


def test_a_fabrics_port_is_the_gpus_unless_stated():
    part, fabric = CATALOG.accelerator("h100-sxm"), CATALOG.fabric("rail-200g")
    assert machine_on_fabric(part, fabric, "bf16").nic_bytes_per_s == fabric.port_bytes_per_s
    stated = machine_on_fabric(part, fabric, "bf16", nic_bytes_per_s=1e9)
    assert stated.nic_bytes_per_s == 1e9


def test_a_network_changes_the_network_alone():
    machine = machine_of(CATALOG.accelerator("h100-sxm"), "bf16")
    assert (machine.taper, machine.pod_size, machine.hop_latency_s) == (1, 1, 0)
    wired = on_network(machine, hop_latency_s=1e-6, taper=0.5, pod_size=64.0)
    assert (wired.taper, wired.pod_size, wired.hop_latency_s) == (0.5, 64, 1e-6)
    assert on_network(wired, hop_latency_s=0.0, taper=1.0, pod_size=1.0) == machine
