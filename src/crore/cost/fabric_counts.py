"""Switches and links of one plane of a network, by topology, as whole numbers.

`R` ports on a switch, `N` endpoints. A folded Clos, a dragonfly and a HyperX may be part filled;
Slim Fly and PolarFly are graphs of a finite field, so the smallest whole one is built. Bisection is
the bandwidth of the narrowest halving over that of half the endpoints, in every topology.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, TypeAlias

LEAST_RADIX: Final = 8
"""Fewest ports of a switch for which every topology here has a graph."""
Graph: TypeAlias = Callable[[int], tuple[int, int]]
"""Order of a finite field -> switches, links of a switch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """One plane, at one link per endpoint."""

    max_endpoints: int
    """What the topology reaches with switches of this radix."""
    least_endpoints: int = 1
    """Below it the endpoints fit on one switch (or group), and the form does not hold."""
    switches: int
    links: int
    """Between switches."""
    diameter: int
    """Switches on the longest of the shortest paths."""
    bisection: float
    pod_endpoints: int
    """Endpoints that reach each other at full bandwidth, whatever the others do."""


def clos(endpoints: int, radix: int, tiers: int, taper: float) -> Counts:
    """Folded Clos, `(2k-1)N/R` switches and `(k-1)N` links when full, tapered at the leaf.

    Leaves `N(1+f)/R`, middle tiers `2fN/R` each, top `fN/R`; reaches `2(R/2)^k` (Al-Fares et al.,
    SIGCOMM 2008). A tapered leaf has more ports down and would reach further: left out.
    """
    reach = 2 * (radix // 2) ** tiers
    if tiers == 1:
        return Counts(
            max_endpoints=reach, switches=1, links=0, diameter=1, bisection=1.0,
            pod_endpoints=endpoints,
        )  # fmt: skip
    leaves = math.ceil(endpoints * (1 + taper) / radix)
    middle = math.ceil(2 * taper * endpoints / radix)
    top = math.ceil(taper * endpoints / radix)
    under_leaf = min(endpoints, math.floor(radix / (1 + taper)))
    return Counts(
        max_endpoints=reach,
        switches=leaves + (tiers - 2) * middle + top,
        links=math.ceil((tiers - 1) * taper * endpoints),
        diameter=2 * tiers - 1,
        bisection=taper,
        pod_endpoints=endpoints if taper == 1 else under_leaf,
    )


def rail_optimised(endpoints: int, radix: int, tiers: int, taper: float, rails: int) -> Counts:
    """One folded Clos whose leaves come in groups of `rails`, one for each GPU of a server.

    A message that stays on its rail, or changes it inside a server, meets one leaf within a group
    (NVIDIA DGX SuperPOD reference architecture). Reaches whole groups of `R/2` servers; a tapered
    leaf has more ports down and would reach further: left out, as in `clos`.
    """
    whole = clos(endpoints, radix, tiers, taper)
    servers = math.ceil(endpoints / rails)
    leaves = rails * math.ceil(servers * (1 + taper) / radix)
    groups = 2 * (radix // 2) ** (tiers - 1) // rails
    return replace(
        whole,
        max_endpoints=groups * rails * (radix // 2),
        switches=whole.switches + leaves - math.ceil(endpoints * (1 + taper) / radix),
        pod_endpoints=min(endpoints, whole.pod_endpoints * rails),
    )


def dragonfly(endpoints: int, radix: int) -> Counts:
    """Balanced dragonfly: `p = (R+1)/4`, `a = 2p`, `h = p`, `N = ap(ah+1)` (Kim et al., ISCA 2008).

    Between two halves run `N/4` global links, half of what half the endpoints send.
    """
    p = (radix + 1) // 4
    a = 2 * p
    switches = math.ceil(endpoints / p)
    return Counts(
        max_endpoints=a * p * (a * p + 1),
        least_endpoints=a * p + 1,
        switches=switches,
        links=math.ceil(switches * (a - 1 + p) / 2),
        diameter=4,
        bisection=0.5,
        pod_endpoints=p,
    )


def mms(q: int) -> tuple[int, int]:
    """Return switches `2q²` and links per switch `(3q-δ)/2` of a Slim Fly, `q = 4w+δ`.

    Besta and Hoefler, SC 2014, on the graphs of McKay, Miller and Širáň.
    """
    delta = {0: 0, 1: 1, 3: -1}[q % 4]
    return 2 * q * q, (3 * q - delta) // 2


def slim_fly(endpoints: int, radix: int) -> Counts:
    """Slim Fly: the smallest whole graph that holds the endpoints, `p = k'/2` on each switch.

    Its second eigenvalue is `k'-q`, and halving the groups attains the spectral bound: `q/(2p)`.
    """
    q, reach = _smallest(endpoints, mms, radix)
    switches, degree = mms(q)
    p = degree // 2
    return Counts(
        max_endpoints=reach,
        least_endpoints=p + 1,
        switches=switches,
        links=switches * degree // 2,
        diameter=3,
        bisection=min(1.0, q / (2 * p)),
        pod_endpoints=p,
    )


def polarity(q: int) -> tuple[int, int]:
    """Return switches `q²+q+1` and links per switch `q+1` of a PolarFly (Lakhotia, SC 2022)."""
    return q * q + q + 1, q + 1


def polarfly(endpoints: int, radix: int) -> Counts:
    """PolarFly: the smallest whole graph that holds the endpoints, `p = k'/2` on each switch.

    The `q+1` switches that are their own neighbours spare a port. All other eigenvalues are at most
    `√q`, so the bisection is at least `(k'-√q)/(2p)`.
    """
    q, reach = _smallest(endpoints, polarity, radix)
    switches, degree = polarity(q)
    p = degree // 2
    return Counts(
        max_endpoints=reach,
        least_endpoints=p + 1,
        switches=switches,
        links=(switches - 1) * degree // 2,
        diameter=3,
        bisection=min(1.0, (degree - math.sqrt(q)) / (2 * p)),
        pod_endpoints=p,
    )


def hyperx_3d(endpoints: int, radix: int) -> Counts:
    """HyperX of three dimensions: `S³T` endpoints, `R = T + 3(S-1)`, bisection `S/(2T)`.

    Ahn et al., SC 2009. `T` is that of the largest machine (`S = R/4`); `S` is cut to fit.
    """
    widest = max(radix // 4, 1)
    on_switch = radix - 3 * (widest - 1)
    edge = 1
    while edge < widest and edge**3 * on_switch < endpoints:
        edge += 1
    switches = math.ceil(endpoints / on_switch)
    return Counts(
        max_endpoints=widest**3 * on_switch,
        least_endpoints=on_switch + 1,
        switches=switches,
        links=math.ceil(switches * 3 * (edge - 1) / 2),
        diameter=4,
        bisection=min(1.0, edge / (2 * on_switch)),
        pod_endpoints=on_switch,
    )


@cache
def prime_powers(limit: int) -> tuple[int, ...]:
    """Return the prime powers up to `limit`: the orders of finite fields."""
    found = []
    for prime in range(2, limit + 1):
        if all(prime % d for d in range(2, math.isqrt(prime) + 1)):
            found += [prime**e for e in range(1, limit.bit_length()) if prime**e <= limit]
    return tuple(sorted(found))


def _smallest(endpoints: int, graph: Graph, radix: int) -> tuple[int, int]:
    """Return the smallest order that holds the endpoints (else the largest), and the reach."""
    sizes = _sizes(graph, radix)
    return next((q for q, holds in sizes if holds >= endpoints), sizes[-1][0]), sizes[-1][1]


@cache
def _sizes(graph: Graph, radix: int) -> tuple[tuple[int, int], ...]:
    """Return each order whose graph a switch can build, and the endpoints it holds."""
    # Both graphs have at least q links on a switch, and half as many endpoints.
    built = ((q, *graph(q)) for q in prime_powers(2 * radix // 3 + 1) if q > 2)
    return tuple((q, n * (k // 2)) for q, n, k in built if k + k // 2 <= radix)
