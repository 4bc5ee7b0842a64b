"""Watts, joules, dollars and the risk of one plan, by first closed forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crore.catalog.economics import load_economics
from crore.cost.money import (
    card_usd_per_gpu_hour,
    facility_usd,
    it_usd,
    ownership_usd_per_gpu_hour,
)
from crore.cost.power import energy_j, gpu_power_w, site_power_w
from crore.plan.request import OWNED, RENTED, Question

Spread = tuple[float, float, float]
BUSY: Final = ("products", "attention", "memory passes", "embedding, head, loss", "recompute",
               "optimizer")  # fmt: skip
MESSAGES: Final = ("tp", "cp", "ep", "pp", "dp", "offload")
SERVER_GPUS: Final = 8
"""From a full server on, a machine is priced as a data centre's, not as a card at home."""
MEMORY_ERROR: Final = 0.043
"""Standard deviation of ln(peak / predicted): 1.48 times the median miss of 2.9 % over 37 measured
peaks (docs/guide/accuracy.md)."""
LATE: Final = 1.25
"""A run this much longer than predicted counts as late."""
ANNOUNCED: Final = "announced"
RETAIL: Final = "retail"
"""Scenarios of supply.toml."""
NO_PRICE: Final = "no price of this part is known"
NO_RENTAL: Final = "no rental price of this part is known"
EIGHTY: Final = 1.2816
"""Half an 80 % interval, in standard deviations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Economy:
    """What a plan takes beside GPUs and time; None where a figure it needs is unknown."""

    power_w: float | None
    """At the meter while it runs, cooling included."""
    energy_j: float | None
    """Of the whole run."""
    usd: Spread | None
    """Of the whole run, (low, value, high): bounds, every price at its extreme together."""
    usd_per_gpu_hour: Spread | None
    usd_basis: str
    """Where the dollars come from: owned, rented, or a card at home."""


def economy_of(q: Question, gpus: float, parts_s: dict[str, float], run_s: float) -> Economy:
    """Return power, energy and dollars of a run; unknown without a board limit or a price."""
    part = q.accelerator
    home = at_home(q, gpus)
    power = None
    if part.tdp_w:
        power = _meter_w(q, gpus, float(gpu_power_w(part.tdp_w, *shares_of(parts_s))), home)
    rate, basis = _rate(q, home)
    hours = gpus * run_s / 3600
    return Economy(
        power_w=power,
        energy_j=None if power is None else float(energy_j(power, run_s)),
        usd=None if rate is None else tuple(hours * x for x in rate),  # type: ignore[arg-type]
        usd_per_gpu_hour=rate,
        usd_basis=basis,
    )


def scenario_of(q: Question) -> str:
    """Return the scenario of supply that a question's GPUs come from: a shop, or one maker."""
    return RETAIL if not q.accelerator.nic_bytes_per_s else ANNOUNCED


def full_load_w(q: Question) -> float | None:
    """Return watts of one GPU at the meter at its board limit; None where none is published."""
    part = q.accelerator
    return _meter_w(q, 1.0, part.tdp_w, at_home(q, 1.0)) if part.tdp_w else None


def at_home(q: Question, gpus: float) -> bool:
    """True for a card without a network of its own, or a server of them, that is not rented."""
    rented = q.request.basis == RENTED
    return not rented and not q.accelerator.nic_bytes_per_s and gpus <= SERVER_GPUS


def shares_of(parts_s: Mapping[str, float]) -> tuple[float, float]:
    """Return the shares of a step in which a GPU computes, and in which it only sends."""
    step = sum(parts_s.values())
    busy, talking = (sum(parts_s.get(k, 0.0) for k in kind) / step for kind in (BUSY, MESSAGES))
    return busy, talking


def _meter_w(q: Question, gpus: float, gpu_w: float, home: bool) -> float:
    book = load_economics().of(q.accelerator.name)
    value = {name: book.figure(name).value for name in
             ("host_w", "network_w", "pue", "workstation_host_w")}  # fmt: skip
    if home:
        return gpus * gpu_w + value["workstation_host_w"]
    return float(
        site_power_w(gpus, gpu_w, host_w=value["host_w"], network_w=value["network_w"],
                     pue=value["pue"])
    )  # fmt: skip


def _rate(q: Question, home: bool) -> tuple[Spread | None, str]:
    """Dollars per GPU-hour: as the request says, or owned where a price is known, else rented."""
    part, asked = q.accelerator, q.request.basis
    book = load_economics().of(part.name)
    watts = full_load_w(q)
    if part.price_usd and watts and asked != RENTED:
        if home:
            return spread_of(card_usd_per_gpu_hour(part.price_usd, watts, book)), "a card at home"
        owned = ownership_usd_per_gpu_hour(
            it_usd(part.price_usd, book), facility_usd(watts, book), watts, book
        )
        return spread_of(owned), "owned: capital, building, upkeep and electricity"
    rental = book.rental(part.name)
    if rental is not None and asked != OWNED:
        return spread_of(rental.spread()), RENTED
    return None, NO_RENTAL if asked == RENTED else NO_PRICE


def spread_of(values: tuple[object, ...]) -> Spread:
    """Return (low, value, high) as plain numbers."""
    low, value, high = (float(v) for v in values)  # type: ignore[arg-type]
    return low, value, high


def risk_of(q: Question, peak_bytes: float, low_s: float, high_s: float) -> float:
    """Chance that a plan runs out of memory or takes LATE times as long as predicted.

    Both misses lognormal: peaks with the spread of measured ones, times with the plan's own 80 %
    interval; taken as independent.
    """
    room = math.log(q.accelerator.memory_bytes / peak_bytes) / MEMORY_ERROR
    spread = math.log(high_s / low_s) / (2 * EIGHTY)
    slack = math.log(LATE) / spread if spread > 0 else math.inf
    return 1 - _below(room) * _below(slack)


def _below(deviations: float) -> float:
    """Share of a normal distribution below so many standard deviations."""
    return 0.5 * (1 + math.erf(deviations / math.sqrt(2)))
