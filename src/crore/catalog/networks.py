"""Fabric and cluster rows: link rates in Gbit/s and latencies in microseconds become SI here."""

from __future__ import annotations

from typing import cast, get_args

from crore.catalog.rows import Row, check_keys, choice, number, read_provenance, whole, words
from crore.catalog.types import Cluster, Fabric, Topology
from crore.errors import InputError, shown

MAX_TIERS = 10
FABRIC_KEYS = (
    "title",
    "topology",
    "tiers",
    "planes",
    "radix",
    "taper",
    "port_gbit_per_s",
    "hop_latency_us",
    "max_endpoints",
)
CLUSTER_KEYS = (
    "title",
    "accelerator",
    "gpus",
    "fabric",
    "node_size",
    "nic_gbit_per_s",
    "sites",
    "wan",
)


def build_fabric(name: str, row: Row) -> Fabric:
    """Return the fabric a row describes; InputError when a figure is missing or out of range.

    `max_endpoints` defaults to what a folded Clos of that radix and depth reaches,
    2·(radix/2)^tiers (Al-Fares et al., SIGCOMM 2008); a WAN has no such limit.
    """
    label = f"fabric {shown(name)}"
    check_keys(label, row, FABRIC_KEYS)
    provenance = read_provenance(label, row)
    topology = cast(Topology, choice(label, row, "topology", get_args(Topology)))
    tiers = whole(label, row, "tiers", 0)
    if tiers > MAX_TIERS:
        raise InputError(f"{label}: tiers is at most {MAX_TIERS}, not {shown(tiers)}")
    radix = whole(label, row, "radix", 0)
    if topology not in ("none", "wan") and (tiers < 1 or radix < 2):
        raise InputError(f"{label}: a {topology} needs tiers >= 1 and radix >= 2")
    reach = 2 * (radix // 2) ** tiers if radix and tiers else 0
    taper = number(label, row, "taper", 1.0)
    if not 0 < taper <= 1:
        raise InputError(f"{label}: taper is over 0 and at most 1 (1 = non-blocking), not {taper}")
    return Fabric(
        name=name,
        title=words(label, row, "title", name),
        topology=topology,
        tiers=tiers,
        planes=whole(label, row, "planes", 1, least=1),
        radix=radix,
        taper=taper,
        port_bytes_per_s=number(label, row, "port_gbit_per_s", 0.0) * 1e9 / 8,
        hop_latency_s=number(label, row, "hop_latency_us", 0.0) * 1e-6,
        max_endpoints=whole(label, row, "max_endpoints", reach),
        provenance=provenance,
    )


def build_cluster(name: str, row: Row) -> Cluster:
    """Return the cluster a row describes; InputError when a figure is missing or contradictory.

    `accelerator`, `fabric` and `wan` are names; whoever holds the catalogue resolves them.
    """
    label = f"cluster {shown(name)}"
    check_keys(label, row, CLUSTER_KEYS)
    provenance = read_provenance(label, row)
    sites = whole(label, row, "sites", 1, least=1)
    wan = words(label, row, "wan", "")
    if (sites > 1) != bool(wan):
        raise InputError(
            f"{label}: {sites} site(s) with wan {shown(wan)}; only several sites need one"
        )
    return Cluster(
        name=name,
        title=words(label, row, "title", name),
        accelerator=words(label, row, "accelerator"),
        gpus=whole(label, row, "gpus", least=1),
        fabric=words(label, row, "fabric"),
        node_size=whole(label, row, "node_size", 0),
        nic_bytes_per_s=number(label, row, "nic_gbit_per_s", 0.0) * 1e9 / 8,
        sites=sites,
        wan=wan,
        provenance=provenance,
    )
