"""Time of messages and collectives when flows are fluids at max-min fair rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crore.simulate.fabric.maxmin import max_min
from crore.simulate.fabric.network import Floats, Network
from crore.simulate.fabric.patterns import Flows, Phase
from crore.simulate.fabric.quotient import quotient_of
from crore.simulate.fabric.routes import Routes, spray

Router: TypeAlias = Callable[[Network, Flows], Routes]


def finish_s(routes: Routes, bytes_per_s: Floats, sizes: Floats) -> Floats:
    """Return when each flow of `sizes` bytes ends, all starting at 0; infinite without a path.

    Rates are filled anew whenever a flow ends, on the quotient that also tells sizes apart (flows
    of one class end together).
    """
    # A demand as a colour: sizes seed the classes, no rate is held to them.
    small = quotient_of(routes, bytes_per_s, sizes)
    capacity, left = bytes_per_s[small.links], sizes[small.flows].astype(float)
    ends = np.full(len(left), np.inf)
    routed = np.bincount(small.routes.flow, minlength=len(left)) > 0
    going, now_s = routed & (left > 0), 0.0
    ends[routed & (left == 0)] = 0.0
    while going.any():
        rate = max_min(_only(small.routes, going), capacity)
        with np.errstate(divide="ignore", invalid="ignore"):
            needs_s = np.where(going, left / rate, np.inf)
        step_s = needs_s.min()
        if not np.isfinite(step_s):  # what is left crosses links without capacity
            break
        now_s += step_s
        done = going & (needs_s <= step_s * (1 + 1e-12))
        left = np.where(going, left - rate * step_s, left)
        ends[done] = now_s
        going &= ~done
    return ends[small.flow_class]


def collective_s(
    network: Network, phases: Sequence[Phase], *, router: Router = spray, latency_s: float = 0.0
) -> float:
    """Return seconds of steps that follow each other, `latency_s` added to each.

    Infinite when failures leave two partners without a path.
    """
    total_s = 0.0
    for phase in phases:
        routes = router(network, phase.flows)
        sizes = np.full(len(phase.flows), phase.bytes)
        last_s = float(finish_s(routes, network.bytes_per_s, sizes).max())
        total_s += phase.repeat * (last_s + latency_s)
    return total_s


def _only(routes: Routes, going: NDArray[np.bool_]) -> Routes:
    kept = going[routes.flow]
    return Routes(
        links=routes.links,
        flows=routes.flows,
        link=routes.link[kept],
        flow=routes.flow[kept],
        share=routes.share[kept],
    )
