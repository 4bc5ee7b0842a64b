"""Several sites, each with a network of its own, joined over long distance.

Every site has a border router on its top tier. Routers form a ring (what passes through a site is
passed on) or are all joined by pairs. A link is whole fibre pairs of coherent channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from crore.catalog.parts import Estimate, Part, part
from crore.cost.fabric import FabricDesign
from crore.cost.fabric_bill import Item, bill_of, units
from crore.errors import InputError, UnknownName

Shape = Literal["ring", "mesh"]
LIGHT_S_PER_KM: Final = 5e-6
"""One way in glass: refractive index 1.5 over the speed of light."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SitesDesign:
    """Sites and what joins them; figures are of all sites together unless they say otherwise."""

    site: FabricDesign
    sites: int
    shape: Shape
    wan_bytes_per_s: float
    """Of one link between sites, one direction."""
    link_km: float
    endpoints: int
    max_endpoints: int
    switches: int
    """Border routers' included."""
    links: int
    """Between switches of a site, each as fast as a port."""
    wan_links: int
    fibre_pairs: int
    """In all links."""
    optic_ends: int
    """Short-distance modules, those between top tier and router included."""
    coherent_ends: int
    diameter: int
    """Switches on the longest of the shortest paths, one to a border router."""
    latency_s: float
    """Light in glass along the longest of the shortest paths, one way."""
    bisection: float
    """Bandwidth between two halves of the sites over that of half the endpoints."""
    price_usd: Estimate
    power_w: float
    bill_of_materials: tuple[Item, ...]


def over_sites(
    site: FabricDesign, sites: int, wan_bytes_per_s: float, link_km: float, shape: Shape = "ring"
) -> SitesDesign:
    """Return so many sites of one design, neighbours joined by `wan_bytes_per_s` each way.

    InputError when the site is no tree (a router has a place on a top tier alone), or for fewer
    than two sites, no bandwidth or no distance; UnknownName for another shape.
    """
    _check(site, sites, wan_bytes_per_s, link_km, shape)
    degree = (2 if sites > 2 else 1) if shape == "ring" else sites - 1
    wan_links = sites * degree // 2
    hops = sites // 2 if shape == "ring" else 1
    # A ring is cut twice; of a mesh every link between the halves is.
    cut = min(degree, 2) if shape == "ring" else (sites // 2) * (sites - sites // 2)
    box, pair = part(site.switch, "switch"), part("pair-km", "pair-km")
    up = degree * wan_bytes_per_s
    pairs = wan_links * units(wan_bytes_per_s, pair)
    routers = sites * units(2 * up, box)
    lines = _lines(box, routers, sites * up, pairs * link_km)
    bill = bill_of(lines)
    half = (sites // 2) * site.endpoints * site.endpoint_bytes_per_s
    return SitesDesign(
        site=site,
        sites=sites,
        shape=shape,
        wan_bytes_per_s=wan_bytes_per_s,
        link_km=link_km,
        endpoints=sites * site.endpoints,
        max_endpoints=sites * site.max_endpoints,
        switches=sites * site.switches + routers,
        links=sites * site.links,
        wan_links=wan_links,
        fibre_pairs=pairs,
        optic_ends=sites * site.optic_ends + lines[1][1],
        coherent_ends=lines[2][1],
        diameter=2 * site.tiers + hops + 1,
        latency_s=hops * link_km * LIGHT_S_PER_KM,
        bisection=min(site.bisection, cut * wan_bytes_per_s / half),
        price_usd=_sum(site.price_usd, sites, bill.price_usd),
        power_w=sites * site.power_w + bill.power_w,
        bill_of_materials=_merged(site.bill_of_materials, sites, bill.items),
    )


def _lines(
    box: Part, routers: int, up_bytes_per_s: float, pair_km: float
) -> tuple[tuple[Part, int], ...]:
    """Return what joins the sites: routers, modules to the top tiers, coherent ones, fibre."""
    module, coherent = part("dsp", "optic"), part("zr", "coherent")
    return (
        (box, routers),
        (module, units(2 * up_bytes_per_s, module)),
        (coherent, units(up_bytes_per_s, coherent)),
        (part("fibre", "fibre"), units(up_bytes_per_s, part("fibre", "fibre"))),
        (part("pair-km", "pair-km"), math.ceil(pair_km)),
    )


def _sum(one: Estimate, times: int, more: Estimate) -> Estimate:
    low, value, high = (times * a + b for a, b in zip(one.spread(), more.spread(), strict=True))
    return Estimate(low=low, value=value, high=high)


def _merged(site: tuple[Item, ...], sites: int, more: tuple[Item, ...]) -> tuple[Item, ...]:
    """Return one line for each part, of all sites and what joins them."""
    lines = {item.name: sites * item.count for item in site}
    for item in more:
        lines[item.name] = lines.get(item.name, 0) + item.count
    one = {item.name: item for item in (*more, *site)}
    return tuple(
        Item(
            name=name,
            count=count,
            unit_usd=one[name].unit_usd,
            total_usd=count * one[name].unit_usd,
            power_w=count * one[name].power_w / one[name].count,
        )
        for name, count in lines.items()
    )


def _check(
    site: FabricDesign, sites: int, wan_bytes_per_s: float, link_km: float, shape: str
) -> None:
    """Refuse what joins no sites."""
    if shape not in get_args(Shape):
        raise UnknownName("shape", shape, get_args(Shape))
    if site.topology not in ("clos", "rail-optimised", "rail-only"):
        raise InputError(f"sites are joined at the top of a tree; a {site.topology} has no top")
    if sites < 2:
        raise InputError(f"several sites are two and more, not {sites}")
    if not 0 < wan_bytes_per_s < math.inf or not 0 < link_km < math.inf:
        raise InputError(
            f"a link between sites has bytes/s and km over 0, not {wan_bytes_per_s:g}, {link_km:g}"
        )
