"""The fabric as a choice: the cheapest network that costs the step next to nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from crore.catalog import Fabric
from crore.cost.fabric import FabricDesign
from crore.cost.fabric_choices import choices
from crore.cost.machine import Machine, on_network
from crore.plan.candidates import Candidates, joined
from crore.plan.fleet import run_s
from crore.plan.pricing import machine_for, timed
from crore.plan.request import Question

HOP_S: Final = 0.5e-6
"""One switch with 30 m of fibre: 0.2 us port to port and serialisation (recalled)."""
SLOWER: Final = 0.01
"""A step may be this share longer than on the fastest network for a cheaper one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """The network a plan runs on: named by the user or the cluster, or chosen here."""

    named: Fabric | None
    design: FabricDesign | None
    machine: Machine
    alternatives: tuple[tuple[FabricDesign, float], ...] = ()
    """Other designs, cheapest first, with the step time on each."""


def choose_network(q: Question, chosen: Candidates) -> Network:
    """Return the network of one island, its bill of materials with it.

    A named fabric stays. Otherwise every sensible design that holds an island's GPUs is priced with
    the plan's layout, and the cheapest within SLOWER of the fastest is taken. Nothing is chosen
    inside one scale-up domain or server, or for cards without a network of their own.
    """
    machine = machine_for(q)
    island = int(chosen.layout.gpus)
    inside = max(machine.domain_size, machine.node_size)
    if q.fabric is not None or island <= inside or not q.accelerator.nic_bytes_per_s:
        return Network(named=q.fabric, design=None, machine=machine)
    bandwidth = float(np.asarray(machine.nic_bytes_per_s))
    rails = int(q.accelerator.domain_size) if q.accelerator.domain_size > 1 else 1
    designs = _designs(island, bandwidth, rails)
    machines = on_network(
        machine,
        hop_latency_s=np.array([d.diameter * HOP_S for d in designs]),
        taper=np.array([d.taper for d in designs]),
        pod_size=np.array([float(d.pod_endpoints) for d in designs]),
    )
    time = timed(q, chosen, machines)
    seconds = np.broadcast_to(np.asarray(time.step_s, dtype=float), (len(designs),))
    near = np.flatnonzero(seconds <= seconds.min() * (1 + SLOWER))
    best = int(near[0])
    others = tuple(
        (design, float(step)) for design, step in zip(designs, seconds, strict=True)
        if design is not designs[best]
    )  # fmt: skip
    return Network(
        named=None, design=designs[best], machine=_single(machines, best), alternatives=others
    )


def run_on(q: Question, chosen: Candidates, machine: Machine | None = None) -> float:
    """Return seconds until the last token of one candidate; on the search's network when None."""
    time = timed(q, chosen, machine)
    step_s = np.atleast_1d(np.asarray(time.step_s, dtype=float))
    return float(run_s(q, joined([chosen], [1]), step_s)[0])


def _single(machines: Machine, index: int) -> Machine:
    names = ("hop_latency_s", "taper", "pod_size")
    columns: dict[str, Any] = {
        name: float(np.asarray(getattr(machines, name))[index]) for name in names
    }
    return replace(machines, **columns)


@lru_cache(maxsize=256)
def _designs(endpoints: int, nic_bytes_per_s: float, rails: int) -> tuple[FabricDesign, ...]:
    """Return `choices`; the plans of a frontier ask for the same few again and again."""
    return tuple(choices(endpoints, nic_bytes_per_s, rails=rails))
