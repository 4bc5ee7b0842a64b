"""What a plan takes and what binds it, as text: failures, power, money, network, limits."""

from __future__ import annotations

from collections.abc import Iterator

from crore.plan.answer import Plan
from crore.units import (
    format_count,
    format_duration,
    format_energy,
    format_int,
    format_si,
    format_usd,
    format_watts,
)


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
    """Power, energy, dollars, network."""
    economy = plan.economy
    power = "power unknown: no board limit published"
    if economy.power_w is not None and economy.energy_j is not None:
        power = f"{format_watts(economy.power_w)} at the meter, {format_energy(economy.energy_j)}"
    money = f"cost unknown: {economy.usd_basis}"
    if economy.usd and economy.usd_per_gpu_hour:
        low, value, high = (format_usd(x) for x in economy.usd)
        rate = economy.usd_per_gpu_hour[1]
        money = f"{value} ({low} to {high}; ${rate:.2f} per GPU-hour, {economy.usd_basis})"
    return [f"takes       {power}", f"            {money}", *_network(plan)]


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
