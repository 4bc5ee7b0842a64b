"""Max-min rates of every flow of ten million GPUs, on classes built from the fleet's description.

Under spraying a leaf's uplinks are one fat link, so the network is a tree: a flow crosses its GPUs'
own links, a leaf up and a leaf down. Flows from one leaf to another that have as many planes are a
class of an equitable partition whatever else fails (see quotient.py), so that rates are filled on
tens of thousands of classes and are those of all flows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crore.simulate.fabric.fleet import FleetStep, States, island_states
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Floats, Ints
from crore.simulate.fabric.routes import Routes


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetRates:
    """Rates of all flows, class by class."""

    bytes_per_s: Floats
    """[classes], of each flow of a class."""
    flows: Ints
    """[classes]."""

    def quantile(self, share: float) -> float:
        """Return the rate that this share of the flows does not exceed."""
        order = np.argsort(self.bytes_per_s)
        reached = np.cumsum(self.flows[order])
        place = int(np.searchsorted(reached, share * reached[-1]))
        return float(self.bytes_per_s[order][min(place, len(order) - 1)])


def fleet_rates(spec: FleetStep, seed: int = 0) -> FleetRates:
    """Return the rates when every GPU sends to the one as many places on as a group of leaves has.

    So every flow leaves its leaf, stays on its rail, and goes round its island. States are those of
    `fleet_step` with the same seed. A flow whose ends have no plane in common gets 0.
    """
    seeds = np.random.SeedSequence(seed).spawn(spec.islands)
    found = []
    for own, worlds in zip(seeds, spec.island_worlds, strict=True):
        states = island_states(spec, np.random.default_rng(own), int(worlds))
        found.append(_island_rates(spec, states, int(worlds) * spec.world_gpus))
    rates, flows = (np.concatenate(column) for column in zip(*found, strict=True))
    return FleetRates(bytes_per_s=rates, flows=flows)


def _island_rates(spec: FleetStep, states: States, gpus: int) -> tuple[Floats, Ints]:
    """Return (rate, flows) of the classes of one island."""
    link = spec.nic_bytes_per_s / spec.planes
    leaves = len(states.leaves.uplinks)
    source, target, planes = _flows(spec, states, gpus)
    key = (source * leaves + target) * (spec.planes + 1) + planes
    classes, count = np.unique(key, return_counts=True)
    pair, planes = np.divmod(classes, spec.planes + 1)
    every = np.arange(len(classes))
    routes = Routes(
        links=2 * leaves,
        flows=len(classes),
        link=np.r_[pair // leaves, leaves + pair % leaves],
        flow=np.r_[every, every],
        share=np.r_[count, count].astype(float),
    )
    up = states.leaves.uplinks * link if spec.uplinks else np.full(leaves, np.inf)
    return max_min(routes, np.r_[up, up], planes * link), count.astype(np.int64)


def _flows(spec: FleetStep, states: States, gpus: int) -> tuple[Ints, Ints, Ints]:
    """Return [gpus] three times: leaf a flow leaves, leaf it goes to, planes its ends share."""
    missing = np.zeros(gpus, dtype=np.int64)
    dead = np.r_[states.links, states.under_dead]
    np.bitwise_or.at(missing, dead // spec.planes, np.int64(1) << dead % spec.planes)
    every = np.arange(gpus)
    partner = (every + spec.leaf_gpus * spec.rails) % gpus
    missing |= missing[partner]
    planes = np.full(gpus, spec.planes, dtype=np.int64)
    hurt = np.flatnonzero(missing)
    for plane in range(spec.planes):
        planes[hurt] -= missing[hurt] >> plane & 1
    server = every // spec.rails
    leaf = server // spec.leaf_gpus * spec.rails + every % spec.rails
    return leaf, leaf[partner], planes
