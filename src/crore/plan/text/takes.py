"""What a plan takes and what binds it, as text: failures, power, money, network, limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

from crore.cost.outlay import Taken
from crore.plan.answer import Plan
from crore.plan.figures import Figures, figures_of
from crore.plan.request import RENTED
from crore.units import (
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_kg,
    format_si,
    format_usd,
    format_watts,
)

SMALLEST: Final = 5e-4
"""Parts of the power below this share are not worth a word."""
SWING_W: Final = 1e6
"""Smaller swings are no matter for a grid."""
WORDS: Final = {
    "run_s": "the length of the run",
    "electricity_usd_per_kwh": "the price of electricity",
    "household_usd_per_kwh": "the price of electricity",
    "price_share": "what is paid for machines",
    "carbon_kg_per_kwh": "the grid's carbon",
    "site_w": "what one site is fed",
    "pue": "cooling (PUE)",
    "workstation_host_w": "the desktop around it",
    "idle_share": "what a waiting GPU draws",
    "message_share": "what a sending GPU draws",
    "buyer_share": "the buyer's share",
    "growth_per_year": "growth of supply",
    "rental": "what a rental costs",
}
"""Assumption -> what a sentence calls it."""


def failures(plan: Plan) -> list[str]:
    """Say how often something fails, how the plan goes on, and what else would."""
    others = ", ".join(f"{name} {share:.2f}" for name, share in plan.goodput_by_policy.items())
    return [
        (
            f"failures    one every {format_duration(plan.mtbf_s)} somewhere (rate of arXiv "
            f"2407.21783); goodput {plan.goodput:.2f} by {_recovery(plan)}"
        ),
        f"            all in step: {others}",
    ]


def _recovery(plan: Plan) -> str:
    words = {"disk": "restart from disk", "peer": "restart from peers' memory"}
    if plan.recovery in words:
        return words[plan.recovery]
    return "a quorum of worlds" + (" and islands" if plan.islands > 1 else "")


def takes(plan: Plan) -> list[str]:
    """Power, energy, carbon, dollars, sites, delivery, each with its range; the network."""
    it = figures_of(plan)
    lines = [*_energy(plan, it), *_money(plan, it), *_built(it), *_swings(it, plan.islands)]
    shown = [f"{'takes' if k == 0 else '':<12}{line}" for k, line in enumerate(lines)]
    return [*shown, *_network(plan)]


def ranged(one: Taken, show: Callable[[float], str]) -> str:
    """Return a figure as its median with its 80 % interval: `18.9 GW (17.1 GW to 21.3 GW)`."""
    low, middle, high = (
        show(x) if math.isfinite(x) else "never" for x in (one.p10, one.p50, one.p90)
    )
    return middle if low == high else f"{middle} ({low} to {high})"


def mover(one: Taken) -> str:
    """Name the assumption that moves a figure most."""
    name = one.mover.removeprefix("supply.")
    return f"; moved most by {WORDS.get(name, name.replace('_', ' '))}" if name else ""


def _energy(plan: Plan, it: Figures) -> Iterator[str]:
    power, energy, carbon = (it.taken[key] for key in ("power_w", "energy_j", "co2_kg"))
    if power is None or energy is None or carbon is None:
        yield "power unknown: no board limit published"
        return
    yield (
        f"{ranged(power, format_watts)} at the meter, {ranged(energy, format_energy)}"
        f"{mover(energy)}"
    )
    parts = ", ".join(
        f"{name} {format_watts(w)}"
        for name, w in it.power_split_w.items()
        if w > SMALLEST * power.likely
    )
    yield f"of it {parts}"
    made = "" if plan.economy.usd_basis == "a card at home" else " with making the machines"
    yield f"{ranged(carbon, format_kg)} CO2{made}{mover(carbon)}"


def _money(plan: Plan, it: Figures) -> Iterator[str]:
    economy, cost = plan.economy, it.taken["cost_usd"]
    if cost is None or economy.usd_per_gpu_hour is None:
        yield f"cost unknown: {economy.usd_basis}"
        return
    rate = economy.usd_per_gpu_hour[1]
    yield f"{ranged(cost, format_usd)}; ${rate:.2f} per GPU-hour, {economy.usd_basis}{mover(cost)}"
    work, tokens, less = (
        it.taken[f"cost_{key}_usd" if key != "of_less" else "cost_of_less_usd"]
        for key in ("per_1e24_flop", "per_1t_tokens", "of_less")
    )
    if work and tokens and less:
        yield (
            f"{format_usd(work.p50)} per 1e24 FLOP, {format_usd(tokens.p50)} per trillion tokens; "
            f"10 % less efficient costs {format_usd(less.p50)} more"
        )
    if it.capital_split_usd and (capital := it.taken["capital_usd"]):
        parts = ", ".join(
            f"{name} {format_usd(x)}" for name, x in it.capital_split_usd.items() if x
        )
        yield f"capital {ranged(capital, format_usd)}: {parts}"
    rental = it.taken["rental_usd"]
    if rental is not None and economy.usd_basis != RENTED:
        bare = it.taken["electricity_usd"]
        own = f"; its electricity alone {ranged(bare, format_usd)}" if bare else ""
        yield f"rented it would be {ranged(rental, format_usd)}{own}"


def _built(it: Figures) -> Iterator[str]:
    sites, ready = it.taken["sites"], it.taken["ready_year"]
    if sites is not None:
        many = "" if sites.p90 == 1 else "s"
        yield f"{ranged(sites, format_int)} site{many} at full load{mover(sites)}"
    if ready is not None:
        yield (
            f"delivered by {ranged(ready, lambda year: f'{year:.1f}')}, supply as {it.supply}"
            f"{mover(ready)}"
        )


def _swings(it: Figures, islands: int) -> Iterator[str]:
    load = it.load
    if load is None or load.swing_w < SWING_W:
        return
    left = f", {format_watts(load.swing_staggered_w)} with their steps staggered"
    yield (
        f"load swings by {format_watts(load.swing_w)} every {format_duration(load.period_s)}"
        f"{left if islands > 1 else ''}; {format_energy(load.storage_j)} of storage would smooth it"
    )


def _network(plan: Plan) -> Iterator[str]:
    design = plan.network.design
    if design is None:
        return
    tiers = f"{design.tiers} tiers, " if design.tiers > 1 else ""
    planes = f"{design.planes} plane{'s' if design.planes > 1 else ''}"
    each = f", one in each of {plan.islands} islands" if plan.islands > 1 else ""
    yield (
        f"fabric      {design.topology}: {tiers}{planes} of {design.switch} "
        f"switches, taper {design.taper:g}{each}"
    )
    low, value, high = (format_usd(plan.islands * x) for x in design.price_usd.spread())
    yield (
        f"            {format_int(plan.islands * design.switches)} switches, "
        f"{format_int(plan.islands * design.optic_ends)} optic ends, {value} ({low} to {high}), "
        f"{format_watts(plan.islands * design.power_w)}"
    )


def _quantity(value: float, unit: str) -> str:
    """Return a number of a limit: bytes and seconds with a prefix, other things counted."""
    name, _, per = unit.partition(" ")
    if name in ("bytes", "bytes/s"):
        return " ".join(filter(None, [format_si(value, name.replace("bytes", "B")), per]))
    if name == "s":
        return " ".join(filter(None, [format_duration(value), per]))
    return f"{format_count(value)} {unit}"


def limits(plan: Plan) -> list[str]:
    """What binds."""
    binding = [limit for limit in plan.limits if limit.binds]
    lines = [
        (
            f"{limit.name}: {_quantity(limit.value, limit.unit)} against "
            f"{_quantity(limit.limit, limit.unit)}; {limit.note}"
        )
        for limit in binding
    ]
    shown = lines or ["none of " + ", ".join(limit.name for limit in plan.limits)]
    return [f"{'binds' if k == 0 else '':<12}{line}" for k, line in enumerate(shown)]
