"""Max-min rates on classes of links and flows that nothing tells apart: exact, and far smaller.

Let `A` be the matrix of shares (links x flows), with capacities of links and demands of flows. Call
a partition of both equitable when capacity and demand are constant in a class, every link of class
j has the same sum of shares from class i, and every flow of class i the same sum of shares on class
j. Then max-min rates are constant on the classes and are those of progressive filling on the
quotient. Proof, by rounds of filling: active flows have one rate, so a link's load depends on its
class alone; links of a class are full together; the flows over them are whole classes.

Colour refinement (Weisfeiler and Leman's, in one dimension) finds the coarsest such partition. What
fails only adds colours: the rates are exact under any failures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Floats, Ints
from crore.simulate.fabric.routes import Routes, mixed


@dataclass(frozen=True, kw_only=True, slots=True)
class Quotient:
    """The classes, and the matrix between them."""

    link_class: Ints
    """[links]."""
    flow_class: Ints
    """[flows]."""
    routes: Routes
    """Of classes: the share is what one link of a class carries of all flows of a class."""
    links: Ints
    """[link classes], one link of each."""
    flows: Ints
    """[flow classes], one flow of each."""


def refine(routes: Routes, bytes_per_s: Floats, demand: Floats) -> tuple[Ints, Ints]:
    """Return the classes of links and of flows, by colour refinement from capacity and demand.

    A class is told by the sum, modulo 2^64, of the mixed colours and shares next to it: two
    different ones are taken for the same with a chance of 2^-64 per pair.
    """
    _, weight = np.unique(routes.share, return_inverse=True)
    colour_of_link = np.unique(bytes_per_s, return_inverse=True)[1].ravel()
    colour_of_flow = np.unique(demand, return_inverse=True)[1].ravel()
    classes = 0
    while classes < (now := _count(colour_of_link) + _count(colour_of_flow)):
        classes = now
        colour_of_link = _split(colour_of_link, routes.link, colour_of_flow[routes.flow], weight)
        colour_of_flow = _split(colour_of_flow, routes.flow, colour_of_link[routes.link], weight)
    return colour_of_link, colour_of_flow


def quotient_of(routes: Routes, bytes_per_s: Floats, demand: Floats | None = None) -> Quotient:
    """Return the quotient by the coarsest equitable partition."""
    demand = np.full(routes.flows, np.inf) if demand is None else demand
    link_class, flow_class = refine(routes, bytes_per_s, demand)
    links = np.unique(link_class, return_index=True)[1].astype(np.int64)
    flows = np.unique(flow_class, return_index=True)[1].astype(np.int64)
    chosen = np.zeros(routes.links, dtype=bool)
    chosen[links] = True
    on = chosen[routes.link]
    key = link_class[routes.link[on]] * len(flows) + flow_class[routes.flow[on]]
    pairs, back = np.unique(key, return_inverse=True)
    share = np.zeros(len(pairs))
    np.add.at(share, back.ravel(), routes.share[on])
    small = Routes(
        links=len(links),
        flows=len(flows),
        link=pairs // len(flows),
        flow=pairs % len(flows),
        share=share,
    )
    return Quotient(
        link_class=link_class, flow_class=flow_class, routes=small, links=links, flows=flows
    )


def max_min_by_classes(routes: Routes, bytes_per_s: Floats, demand: Floats | None = None) -> Floats:
    """Return `max_min`'s rates of every flow, filled on the quotient."""
    small = quotient_of(routes, bytes_per_s, demand)
    wish = None if demand is None else demand[small.flows]
    return max_min(small.routes, bytes_per_s[small.links], wish)[small.flow_class]


def _split(colour: Ints, own: Ints, other: Ints, weight: Ints) -> Ints:
    """Return the colours split by what is next to each: (colour of the other side, share)."""
    signs = mixed(weight, mixed(other, np.uint64(1)))
    order = np.argsort(own, kind="stable")
    mine = own[order]
    starts = np.flatnonzero(np.r_[True, mine[1:] != mine[:-1]]) if len(mine) else mine
    total = np.zeros(len(colour), dtype=np.uint64)
    if len(mine):
        total[mine[starts]] = np.add.reduceat(signs[order], starts)
    both = mixed(colour, total)
    # Split, never merge: the old colour stays the first key.
    order = np.lexsort((both, colour))
    first = np.r_[True, (np.diff(colour[order]) != 0) | (both[order][1:] != both[order][:-1])]
    new = np.empty_like(colour)
    new[order] = np.cumsum(first[: len(order)]) - 1
    return new


def _count(colour: Ints) -> int:
    return int(colour.max(initial=-1)) + 1
