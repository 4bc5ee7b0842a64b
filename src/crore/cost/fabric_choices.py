"""The networks worth choosing among for N endpoints: every sensible form, the dominated removed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from crore.catalog.parts import part, parts
from crore.cost.fabric import MAX_TIERS, FabricDesign, Topology, design
from crore.errors import Infeasible, InputError

PLANES: Final = (1, 2, 4, 8)
TAPERS: Final = (1.0, 0.5, 0.25)
TREES: Final[tuple[Topology, ...]] = ("clos", "rail-only")
GRAPHS: Final[tuple[Topology, ...]] = ("dragonfly", "slim-fly")


def choices(
    endpoints: int, nic_bytes_per_s: float, *, rails: int = 1, optics: str = "dsp"
) -> list[FabricDesign]:
    """Return the networks that hold so many endpoints, cheapest first, none dominated.

    Clos (with the fewest tiers that reach: more never pay), dragonfly and Slim Fly on every switch
    and number of planes; rail-only too when a scale-up domain of `rails` > 1 GPUs joins the rails.
    One is dominated when another is no dearer, draws no more power, is no deeper, halves no worse
    and has no more rails. InputError for no endpoints or bandwidth; Infeasible when nothing holds.
    """
    part(optics, "optic")
    if endpoints < 1 or not 0 < nic_bytes_per_s < math.inf or rails < 1:
        raise InputError(
            f"choices need endpoints, bytes/s and rails over 0, not {endpoints}, "
            f"{nic_bytes_per_s:g}, {rails}"
        )
    designs = _designs(endpoints, nic_bytes_per_s, rails, optics)
    kept: list[FabricDesign] = []
    for one in sorted(designs, key=_burdens):
        if not any(_no_worse(other, one) for other in kept):
            kept.append(one)
    if not kept:
        raise Infeasible(
            f"no network of up to {PLANES[-1]} planes and {MAX_TIERS} tiers holds {endpoints:,} "
            f"endpoints of {nic_bytes_per_s:.3g} bytes/s: split them over sites"
        )
    return kept


def _burdens(one: FabricDesign) -> tuple[float, ...]:
    """What one wants less of; price first, so that a dearer design never dominates."""
    return (one.price_usd.value, one.power_w, one.diameter, -one.bisection, one.rails)


def _no_worse(other: FabricDesign, one: FabricDesign) -> bool:
    return all(a <= b for a, b in zip(_burdens(other), _burdens(one), strict=True))


def _designs(
    endpoints: int, nic_bytes_per_s: float, rails: int, optics: str
) -> Iterator[FabricDesign]:
    for topology, taper in _forms(rails):
        for box in parts().values():
            if box.kind != "switch":
                continue
            for planes in PLANES:
                try:
                    yield design(
                        topology,
                        endpoints,
                        nic_bytes_per_s,
                        switch=box.name,
                        planes=planes,
                        taper=taper,
                        rails=rails if topology == "rail-only" else 1,
                        optics=optics,
                    )
                except InputError:  # out of reach, or so few endpoints that the form degenerates
                    continue


def _forms(rails: int) -> list[tuple[Topology, float]]:
    trees = TREES if rails > 1 else TREES[:1]
    return [(t, f) for t in trees for f in TAPERS] + [(g, 1.0) for g in GRAPHS]
