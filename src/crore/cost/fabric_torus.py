"""A three-dimensional torus of chips with optical circuit switches between its blocks."""

from __future__ import annotations

import math
from typing import Final

from crore.catalog.parts import part
from crore.cost.fabric import FabricDesign
from crore.cost.fabric_bill import Bill, bill_of, units
from crore.errors import InputError

BLOCK: Final = 4
"""Edge of a block whose links are copper; a quarter of all links leave it (arXiv 2304.01433)."""
PORTS: Final = 6


def torus(endpoints: int, bytes_per_s: float, *, optics: str = "dsp") -> FabricDesign:
    """Return the smallest cubic torus of whole blocks of 4 x 4 x 4 chips that holds the endpoints.

    Chips pass on each other's messages over six links that share `bytes_per_s`, so there are no
    packet switches and no adapters; a link between blocks takes two ports of an optical circuit
    switch (TPU v4, arXiv 2304.01433). InputError for no endpoints or no bandwidth.
    """
    if endpoints < 1 or not 0 < bytes_per_s < math.inf:
        raise InputError(
            f"a torus needs endpoints and bytes/s over 0, not {endpoints}, {bytes_per_s:g}"
        )
    edge = max(BLOCK, int(endpoints ** (1 / 3)) // BLOCK * BLOCK)
    while edge**3 < endpoints:
        edge += BLOCK
    links = 3 * edge**3
    optical = links // BLOCK
    bill = _bill(links, optical, bytes_per_s / PORTS, optics)
    return FabricDesign(
        topology="torus-ocs",
        switch="ocs",
        tiers=1,
        planes=1,
        rails=1,
        taper=1.0,
        radix=PORTS,
        endpoints=endpoints,
        endpoint_bytes_per_s=bytes_per_s,
        max_endpoints=edge**3,
        switches=0,
        links=links,
        optic_ends=units(2 * optical * bytes_per_s / PORTS, part(optics, "optic")),
        diameter=3 * (edge // 2),
        # 2·edge² links of a sixth of the bandwidth each, over edge³/2 chips.
        bisection=2 / (3 * edge),
        pod_endpoints=1,
        price_usd=bill.price_usd,
        power_w=bill.power_w,
        bill_of_materials=bill.items,
    )


def _bill(links: int, optical: int, link_bytes_per_s: float, optics: str) -> Bill:
    module, fibre, copper = part(optics, "optic"), part("fibre", "fibre"), part("dac", "copper")
    return bill_of(
        (
            (part("ocs", "ocs"), 2 * optical),
            (module, units(2 * optical * link_bytes_per_s, module)),
            (fibre, units(optical * link_bytes_per_s, fibre)),
            (copper, units((links - optical) * link_bytes_per_s, copper)),
        )
    )
