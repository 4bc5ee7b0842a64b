"""Networks under load and under failure: flows, packets, and a step of ten million GPUs."""

from crore.simulate.fabric.components import Frailty
from crore.simulate.fabric.filling import fill_s, unloaded_s
from crore.simulate.fabric.fleet import FleetStep, FleetStepResult, fleet_step
from crore.simulate.fabric.fluid import collective_s, finish_s
from crore.simulate.fabric.graphs import dragonfly, over_sites, slim_fly, torus
from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Network, random_failures, without
from crore.simulate.fabric.packets import Packets, send
from crore.simulate.fabric.patterns import (
    Flows,
    Phase,
    exchange_of,
    incast_of,
    permutation_of,
    phases_of,
    ring_of,
)
from crore.simulate.fabric.quotient import max_min_by_classes, quotient_of
from crore.simulate.fabric.rates import FleetRates, fleet_rates
from crore.simulate.fabric.routes import every_path, hashed_paths, routes_of, spray
from crore.simulate.fabric.trees import Tree, folded_clos, full_tree, rail_only, rail_optimised

__all__ = [
    "FleetRates",
    "FleetStep",
    "FleetStepResult",
    "Flows",
    "Frailty",
    "Network",
    "Packets",
    "Phase",
    "Tree",
    "collective_s",
    "dragonfly",
    "every_path",
    "exchange_of",
    "fill_s",
    "finish_s",
    "fleet_rates",
    "fleet_step",
    "folded_clos",
    "full_tree",
    "hashed_paths",
    "incast_of",
    "max_min",
    "max_min_by_classes",
    "over_sites",
    "permutation_of",
    "phases_of",
    "quotient_of",
    "rail_only",
    "rail_optimised",
    "random_failures",
    "ring_of",
    "routes_of",
    "send",
    "slim_fly",
    "spray",
    "torus",
    "unloaded_s",
    "without",
]
