"""One network for N endpoints: counts, reach, price and power of a chosen form.

An endpoint is one GPU's adapter. Its bandwidth is split over `planes` equal networks, so a switch
has `R = C_switch·planes/b_nic` ports, as far as its serdes lanes go. Hosts are on copper, links
between switches on optics. Cooling, spares, management and cables between halls are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from crore.catalog.parts import Estimate, Part, part
from crore.cost.fabric_bill import Bill, Item, bill_of, units
from crore.cost.fabric_counts import (
    LEAST_RADIX,
    Counts,
    clos,
    dragonfly,
    hyperx_3d,
    polarfly,
    rail_optimised,
    slim_fly,
)
from crore.errors import InputError, UnknownName, shown

Topology: TypeAlias = Literal[
    "clos", "rail-optimised", "rail-only", "dragonfly", "slim-fly", "polarfly", "hyperx-3d"
]
RAILED: Final = ("rail-optimised", "rail-only")
DIRECT: Final[Mapping[str, Callable[[int, int], Counts]]] = {
    "dragonfly": dragonfly,
    "slim-fly": slim_fly,
    "polarfly": polarfly,
    "hyperx-3d": hyperx_3d,
}
"""Topologies without levels: endpoints and radix -> counts of a plane."""
MAX_TIERS: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class FabricDesign:
    """One network: what it is, what it reaches, what it costs."""

    topology: Topology | Literal["torus-ocs"]
    switch: str
    """Key of the switch in the catalogue; "ocs" for a torus."""
    tiers: int
    """Levels of switches; 1 where there are no levels."""
    planes: int
    rails: int
    """Of a rail-only form, networks no switch joins: traffic between them goes through the scale-up
    domain. Of a rail-optimised one, leaves over which the GPUs of a server are spread."""
    taper: float
    """Uplink over downlink bandwidth of a leaf."""
    radix: int
    """Ports of a switch, each as fast as one plane's share of an endpoint; 6 links of a torus."""
    endpoints: int
    endpoint_bytes_per_s: float
    """Of one endpoint, all planes together, one direction."""
    max_endpoints: int
    switches: int
    links: int
    """Between switches, each as fast as a port."""
    optic_ends: int
    """Modules of 800 Gb/s at both ends of those links; slower links share one."""
    diameter: int
    """Switches on the longest of the shortest paths; of a torus the chips, the last included."""
    bisection: float
    """Bandwidth of the narrowest halving over that of half the endpoints; of each rail by itself.
    For PolarFly a lower bound."""
    pod_endpoints: int
    """Endpoints that reach each other at full bandwidth, whatever the others do."""
    price_usd: Estimate
    """With adapters."""
    power_w: float
    """With adapters."""
    bill_of_materials: tuple[Item, ...]


def design(
    topology: Topology,
    endpoints: int,
    nic_bytes_per_s: float,
    *,
    switch: str,
    tiers: int | None = None,
    planes: int = 1,
    taper: float = 1.0,
    rails: int = 1,
    optics: str = "dsp",
) -> FabricDesign:
    """Return the network of this form for so many endpoints.

    `tiers` (of a Clos or a network of rails) defaults to the fewest that reach; `rails` counts the
    independent networks of a rail-only one (arXiv 2307.12169), the leaves a server is on in a
    rail-optimised one. InputError when the endpoints exceed its reach or a figure makes no sense,
    UnknownName for a part the catalogue does not hold.
    """
    _check(topology, endpoints, nic_bytes_per_s, tiers, planes, taper, rails)
    box = part(switch, "switch")
    radix = radix_of(box, nic_bytes_per_s, planes)
    apart = rails if topology == "rail-only" else 1
    tiers = tiers or fewest_tiers(topology, math.ceil(endpoints / apart), radix)
    if tiers == 1 and (taper < 1 or topology == "rail-optimised"):
        raise InputError(
            f"one tier has no uplinks to taper to {taper:g} or join rails: ask for two, or a clos"
        )
    counts = _plane(topology, math.ceil(endpoints / apart), radix, tiers, taper, rails)
    _check_reach(topology, endpoints, counts, apart, f"{tiers} tier(s) of {radix}-port {switch}")
    switches, links = counts.switches * planes * apart, counts.links * planes * apart
    link_bytes_per_s = links * nic_bytes_per_s / planes
    optic_ends = units(2 * link_bytes_per_s, part(optics, "optic"))
    bill = _bill(endpoints, nic_bytes_per_s, box, switches, link_bytes_per_s, optics)
    return FabricDesign(
        topology=topology,
        switch=switch,
        tiers=tiers,
        planes=planes,
        rails=rails,
        taper=taper,
        radix=radix,
        endpoints=endpoints,
        endpoint_bytes_per_s=nic_bytes_per_s,
        max_endpoints=counts.max_endpoints * apart,
        switches=switches,
        links=links,
        optic_ends=optic_ends,
        diameter=counts.diameter,
        bisection=counts.bisection,
        pod_endpoints=counts.pod_endpoints,
        price_usd=bill.price_usd,
        power_w=bill.power_w,
        bill_of_materials=bill.items,
    )


def radix_of(box: Part, nic_bytes_per_s: float, planes: int) -> int:
    """Return the ports of a switch at one plane's share of an endpoint; its lanes bound them.

    InputError below eight ports.
    """
    radix = min(box.ports, math.floor(box.bytes_per_s * planes / nic_bytes_per_s * (1 + 1e-12)))
    if radix < LEAST_RADIX:
        raise InputError(
            f"switch {box.name} has {radix} ports of {nic_bytes_per_s / planes:.3g} bytes/s; a "
            f"network needs {LEAST_RADIX}: more planes, or a faster switch"
        )
    return radix


def fewest_tiers(topology: str, endpoints: int, radix: int) -> int:
    """Return the tiers of the lowest Clos that reaches (at most four); 1 without levels."""
    if topology in DIRECT:
        return 1
    least = 2 if topology == "rail-optimised" else 1
    reach = (k for k in range(least, MAX_TIERS) if 2 * (radix // 2) ** k >= endpoints)
    return next(reach, MAX_TIERS)


def _plane(
    topology: str, endpoints: int, radix: int, tiers: int, taper: float, rails: int
) -> Counts:
    if topology in DIRECT:
        return DIRECT[topology](endpoints, radix)
    if topology == "rail-optimised":
        return rail_optimised(endpoints, radix, tiers, taper, rails)
    return clos(endpoints, radix, tiers, taper)


def _bill(
    endpoints: int,
    nic_bytes_per_s: float,
    box: Part,
    switches: int,
    link_bytes_per_s: float,
    optics: str,
) -> Bill:
    """Return the bill: an endpoint has at least one adapter; other parts are shared by links."""
    module, fibre = part(optics, "optic"), part("fibre", "fibre")
    nic, copper = part("nic", "nic"), part("dac", "copper")
    return bill_of(
        (
            (box, switches),
            (module, units(2 * link_bytes_per_s, module)),
            (fibre, units(link_bytes_per_s, fibre)),
            (copper, units(endpoints * nic_bytes_per_s, copper)),
            (nic, endpoints * units(nic_bytes_per_s, nic)),
        )
    )


def _check(
    topology: str,
    endpoints: int,
    nic_bytes_per_s: float,
    tiers: int | None,
    planes: int,
    taper: float,
    rails: int,
) -> None:
    """Refuse what no network can be."""
    if topology not in get_args(Topology):
        raise UnknownName("topology", topology, get_args(Topology))
    if endpoints < 1 or planes < 1:
        raise InputError(
            f"a network has at least 1 endpoint and 1 plane, not {endpoints}, {planes}"
        )
    if not 0 < nic_bytes_per_s < math.inf:
        raise InputError(f"an endpoint's bandwidth is over 0 bytes/s, not {nic_bytes_per_s:g}")
    if not 0 < taper <= 1:
        raise InputError(f"taper is over 0 and at most 1 (1 = non-blocking), not {taper:g}")
    if tiers is not None and not 1 <= tiers <= MAX_TIERS:
        raise InputError(f"tiers is 1 to {MAX_TIERS}, not {tiers}")
    if (rails > 1) != (topology in RAILED) or rails < 1:
        raise InputError(
            f"{topology} with {shown(rails)} rails: only networks of rails have several"
        )
    if topology in DIRECT and (tiers not in (None, 1) or taper < 1):
        raise InputError(f"a {topology} has no tiers and no taper: leave both out")


def _check_reach(topology: str, endpoints: int, counts: Counts, apart: int, built: str) -> None:
    """Refuse endpoints outside what the form holds."""
    reach = counts.max_endpoints * apart
    if endpoints > reach:
        raise InputError(
            f"{endpoints:,} endpoints exceed {topology}, {built}: at most {reach:,}; use more "
            "planes or tiers, or a faster switch"
        )
    if endpoints < counts.least_endpoints:
        raise InputError(
            f"{endpoints:,} endpoints are too few for {topology}, {built}: at least "
            f"{counts.least_endpoints:,}; use a clos"
        )
