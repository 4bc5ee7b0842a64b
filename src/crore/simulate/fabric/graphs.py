"""Networks without tiers, cable by cable: dragonfly, Slim Fly, torus; and several sites."""

from __future__ import annotations

import math

import numpy as np

from crore.errors import InputError
from crore.simulate.fabric.network import Cables, Ints, Network, network_of


def dragonfly(p: int, a: int, h: int, nic_bytes_per_s: float) -> Network:
    """Return the largest dragonfly: `ah + 1` groups of `a` switches, `p` endpoints on each.

    Every two switches of a group and every two groups have one cable (Kim et al., ISCA 2008); the
    j-th global port of a group goes to the j-th other group.
    """
    _positive(p=p, a=a, h=h)
    groups, endpoints = a * h + 1, p * a * (a * h + 1)
    cables = [_hosts(endpoints, p, nic_bytes_per_s)]
    one, two = np.triu_indices(a, 1)
    group = np.arange(groups, dtype=np.int64)[:, None] * a + endpoints
    cables.append(
        Cables(ends=((group + one).ravel(), (group + two).ravel()), bytes_per_s=nic_bytes_per_s)
    )
    low, high = (np.asarray(x, dtype=np.int64) for x in np.triu_indices(groups, 1))
    # Among the other groups the lower is number `low`, the higher number `high - 1`.
    ends = (endpoints + low * a + (high - 1) // h, endpoints + high * a + low // h)
    cables.append(Cables(ends=ends, bytes_per_s=nic_bytes_per_s))
    return network_of(f"dragonfly p={p} a={a} h={h}", endpoints, endpoints + groups * a, cables)


def slim_fly(q: int, p: int, nic_bytes_per_s: float) -> Network:
    """Return the Slim Fly of a prime `q = 4w ± 1`: `2q²` switches, `p` endpoints on each.

    Graphs of McKay, Miller and Širáň as built by Hafner (2004); Besta and Hoefler, SC 2014.
    InputError when q is no odd prime.
    """
    _positive(q=q, p=p)
    if q < 5 or q % 2 == 0 or any(q % d == 0 for d in range(3, math.isqrt(q) + 1, 2)):
        raise InputError(f"a Slim Fly is built here for primes from 5 on, not {q}")
    endpoints = 2 * q * q * p
    near, far = _generators(q)
    x, y = (v.ravel() for v in np.meshgrid(np.arange(q), np.arange(q), indexing="ij"))
    here, there = x * q + y, q * q
    pairs = [(here, x * q + (y + step) % q) for step in near]
    pairs += [(there + here, there + x * q + (y + step) % q) for step in far]
    # (0, x, y) and (1, m, c) are joined when y = m·x + c.
    pairs += [(here, there + m * q + (y - m * x) % q) for m in range(q)]
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    once = np.unique(np.sort(np.stack([a, b], axis=1), axis=1), axis=0) + endpoints
    cables = [
        _hosts(endpoints, p, nic_bytes_per_s),
        Cables(ends=(once[:, 0], once[:, 1]), bytes_per_s=nic_bytes_per_s),
    ]
    return network_of(f"slim fly q={q} p={p}", endpoints, endpoints + 2 * q * q, cables)


def _generators(q: int) -> tuple[list[int], list[int]]:
    """Return the two sets of differences: even and odd powers of a primitive root, as q asks."""
    root = next(g for g in range(2, q) if len({pow(g, e, q) for e in range(q - 1)}) == q - 1)
    w = (q + 1) // 4
    if q % 4 == 1:
        even = [pow(root, e, q) for e in range(0, q - 1, 2)]
    else:
        even = [pow(root, e, q) for e in (*range(0, 2 * w - 1, 2), *range(2 * w - 1, 4 * w - 2, 2))]
    return even, [e * root % q for e in even]


def torus(edges: tuple[int, ...], chip_bytes_per_s: float) -> Network:
    """Return a torus of chips that pass on each other's messages, two links per dimension.

    Links share a chip's bandwidth. Where a cable wraps does not matter to the flows: an optical
    switch, set once for a job, is a cable (TPU v4, arXiv 2304.01433). InputError below three chips
    along an edge, where both links would join the same two.
    """
    if not edges or min(edges) < 3:
        raise InputError(f"a torus has edges of three chips and more, not {edges}")
    chips = math.prod(edges)
    place = np.arange(chips, dtype=np.int64).reshape(edges)
    rate = chip_bytes_per_s / (2 * len(edges))
    cables = [
        Cables(ends=(place.ravel(), np.roll(place, -1, axis).ravel()), bytes_per_s=rate)
        for axis in range(len(edges))
    ]
    return network_of(f"torus {edges}", chips, chips, cables, forward=True)


def over_sites(site: Network, sites: int, wan_bytes_per_s: float, *, ring: bool = True) -> Network:
    """Return copies of a network, each with a border router, joined by long-distance links.

    `wan_bytes_per_s` is one link's, in each direction; the routers form a ring, or are all joined
    by pairs. A router hangs on the top switches of a tree by links that do not hold it up.
    InputError for fewer than two sites, or no tree: a router on every switch would be a short cut.
    """
    top, away = _top(site)
    if sites < 2 or (away < 2 and len(top) > 1):
        raise InputError(f"several sites are two and more, each a tree, not {sites} of {site.name}")
    inner, outer = site.endpoints, site.nodes - site.endpoints
    cables = []
    once = site.source < site.target
    for copy in range(sites):
        new = np.r_[
            np.arange(inner) + copy * inner, np.arange(outer) + sites * inner + copy * outer
        ]
        a, b = new[site.source[once]], new[site.target[once]]
        for rate, plane in set(zip(site.bytes_per_s[once], site.plane[once], strict=True)):
            kind = (site.bytes_per_s[once] == rate) & (site.plane[once] == plane)
            cables.append(Cables(ends=(a[kind], b[kind]), bytes_per_s=rate, plane=int(plane)))
        router = np.full(len(top), sites * site.nodes + copy)
        cables.append(Cables(ends=(new[top], router), bytes_per_s=2 * sites * wan_bytes_per_s))
    one, two = _ring(sites) if ring else np.triu_indices(sites, 1)
    routers = sites * site.nodes
    cables.append(Cables(ends=(routers + one, routers + two), bytes_per_s=wan_bytes_per_s))
    forward = bool(site.transit[:inner].any())
    name = f"{sites} sites of {site.name}"
    return network_of(name, sites * inner, routers + sites, cables, forward=forward)


def _ring(sites: int) -> tuple[Ints, Ints]:
    """Return the pairs of neighbours; two sites have one."""
    one = np.arange(sites if sites > 2 else 1, dtype=np.int64)
    return one, (one + 1) % sites


def _top(site: Network) -> tuple[Ints, int]:
    """Return the switches farthest from the endpoints, and how far."""
    away = np.where(np.arange(site.nodes) < site.endpoints, 0, site.nodes)
    for _ in range(site.nodes):
        nearer = away.copy()
        np.minimum.at(nearer, site.target, away[site.source] + 1)
        if (nearer == away).all():
            break
        away = nearer
    return np.flatnonzero(away == away.max()).astype(np.int64), int(away.max())


def _hosts(endpoints: int, p: int, bytes_per_s: float) -> Cables:
    every = np.arange(endpoints, dtype=np.int64)
    return Cables(ends=(every, endpoints + every // p), bytes_per_s=bytes_per_s)


def _positive(**values: int) -> None:
    if min(values.values()) < 1:
        raise InputError(f"a network's numbers are over 0: {values}")
