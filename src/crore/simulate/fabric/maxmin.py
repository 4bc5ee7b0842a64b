"""Max-min fair rates of flows by progressive filling (Bertsekas, Gallager: Data Networks, 6.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crore.errors import InputError
from crore.simulate.fabric.network import Floats
from crore.simulate.fabric.routes import Routes


def max_min(routes: Routes, bytes_per_s: Floats, demand: Floats | None = None) -> Floats:
    """Return the max-min fair rate of each flow, bytes/s.

    All rates rise together; flows over a link stop when it is full, and a flow stops at its demand.
    `bytes_per_s` is of each link, `demand` of each flow (none when left out). A flow without a path
    gets 0. InputError for sizes that do not fit, a negative figure, or nothing that bounds a flow.
    """
    demand = np.full(routes.flows, np.inf) if demand is None else demand
    _check(routes, bytes_per_s, demand)
    rate = np.zeros(routes.flows)
    active = np.bincount(routes.flow, minlength=routes.flows) > 0
    while active.any():
        level, full = _next_level(routes, bytes_per_s, rate, active)
        wish = demand[active].min()
        if not np.isfinite(min(level, wish)):
            raise InputError("a flow has neither a demand nor a link of limited capacity")
        stopped = np.zeros(routes.flows, dtype=bool)
        if level <= wish:
            stopped[routes.flow[full[routes.link]]] = True
        if wish <= level:
            stopped |= demand == wish
        stopped &= active
        rate[stopped] = min(level, wish)
        active &= ~stopped
    return rate


def _next_level(
    routes: Routes, bytes_per_s: Floats, rate: Floats, active: NDArray[np.bool_]
) -> tuple[float, NDArray[np.bool_]]:
    """Return the rate at which the next links are full, and those links.

    What stopped flows take is summed afresh each time, so that no error piles up.
    """
    share = np.where(active[routes.flow], routes.share, 0.0)
    load = np.bincount(routes.link, weights=share, minlength=routes.links)
    stopped = np.where(active[routes.flow], 0.0, routes.share * rate[routes.flow])
    taken = np.bincount(routes.link, weights=stopped, minlength=routes.links)
    used = load > 0
    level = np.full(routes.links, np.inf)
    level[used] = np.maximum(bytes_per_s[used] - taken[used], 0.0) / load[used]
    lowest = float(level.min(initial=np.inf))
    return lowest, used & (level == lowest)


def _check(routes: Routes, bytes_per_s: Floats, demand: Floats) -> None:
    if len(bytes_per_s) != routes.links or len(demand) != routes.flows:
        raise InputError(
            f"{routes.links} links and {routes.flows} flows with {len(bytes_per_s)} capacities and "
            f"{len(demand)} demands"
        )
    if not (bytes_per_s >= 0).all() or not (demand >= 0).all():
        raise InputError("capacities and demands are 0 or more")
