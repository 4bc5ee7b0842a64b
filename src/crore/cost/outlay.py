"""What a run takes, for any choice of its assumptions: dollars, watts, joules, tonnes, sites.

`outlay` is one closed form; `taken` draws its assumptions from their ranges with one seed, and
moves each alone over its range to find the one that matters most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from crore.catalog.economics import Economics
from crore.cost.arrays import Num
from crore.cost.money import HOURS_PER_YEAR, WATTS_PER_KW, capital_recovery
from crore.cost.power import IDLE_RANGE, KWH_J, MESSAGE_RANGE, energy_j, gpu_power_w, site_power_w
from crore.cost.sampling import normal, percentiles, triangle, two_sided, uniform

Spread = tuple[float, float, float]
Basis = Literal["owned", "rented", "card", "unknown"]
Pick = Callable[[str], Num]
"""Name of an assumption -> the value taken: its likely one, an end, or draws `[D]`."""
RUN: Final = "run_s"
"""The assumption of how long the run takes."""
LESS: Final = 0.1
"""By how much less efficient a run is whose price is told."""
OWNED: Final = ("electricity_usd_per_kwh", "cost_of_capital", "it_years", "facility_years",
                "upkeep", "it_all_in", "price_share", "facility_usd_per_w")  # fmt: skip
METERED: Final = ("host_w", "network_w", "pue")
CARD: Final = ("workstation_host_w", "household_usd_per_kwh", "card_years")
ANYHOW: Final = ("carbon_kg_per_kwh", "embodied_kg", "it_years", "site_w")
YEAR_S: Final = HOURS_PER_YEAR * 3600.0
PER_FLOP: Final = 1e24
PER_TOKEN: Final = 1e12


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A run, as far as money and power need it."""

    gpus: float
    tdp_w: float
    price_usd: float
    """Of one accelerator; 0 where unknown."""
    busy: float
    """Share of a step in which it computes."""
    talking: float
    """Share in which it only sends."""
    run_s: Spread
    """80 % interval and its value."""
    flops: float
    """Model FLOPs of the whole run."""
    tokens: float
    at_home: bool
    basis: Basis


@dataclass(frozen=True, kw_only=True, slots=True)
class Assumption:
    """One range."""

    spread: Spread
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """One figure of a run with its range and what moves it most."""

    p10: float
    p50: float
    p90: float
    likely: float
    """With every assumption at its likely value."""
    mover: str
    """The assumption whose own range moves it most; empty where none does."""
    mover_low: float
    """The figure with that assumption at its low end, the others likely."""
    mover_high: float
    source: str
    """Where the assumption's range comes from."""
    moved_by: tuple[str, ...]
    """Every assumption that moves it, most first."""


def assumptions(it: Subject, book: Economics, accelerator: str) -> dict[str, Assumption]:
    """Return every range that a run's figures depend on; `book` has the accelerator's own."""
    names = list(ANYHOW)
    names += CARD[:1] if it.at_home else METERED
    names += CARD[1:] if it.at_home else OWNED[:1] if it.basis == "rented" else OWNED
    found = {
        name: Assumption(spread=book.figure(name).spread(),
                         source=book.figure(name).provenance.source)
        for name in dict.fromkeys(names)
    }  # fmt: skip
    found["idle_share"] = Assumption(spread=IDLE_RANGE, source="estimate: a waiting board")
    found["message_share"] = Assumption(
        spread=MESSAGE_RANGE, source="estimate after the swings of arXiv 2508.14318"
    )
    found[RUN] = Assumption(spread=it.run_s, source="the plan's own 80 % interval")
    if rental := book.rental(accelerator):
        found["rental"] = Assumption(spread=rental.spread(), source=rental.provenance.source)
    return found


def outlay(it: Subject, pick: Pick, *, rented: bool) -> dict[str, Num]:
    """Return every figure that is known, floats or `[D]`; `rented` when a rental price is known.

    Capital is bought new; a run bears its hours' share of it by capital recovery. Carbon is the
    grid's for the energy and the run's share of what making the machines took. A run at a tenth
    less efficiency takes `1/(1 - 0.1)` of everything that is paid by the hour.
    """
    run_s = pick(RUN)
    hours = run_s / 3600
    found: dict[str, Num] = {}
    if it.tdp_w:
        found |= _power(it, pick, run_s)
    if rented:
        found["rental_usd"] = it.gpus * hours * pick("rental")
    if it.basis == "rented":
        found["cost_usd"] = found["rental_usd"]
    elif it.basis in ("owned", "card"):
        found |= _owned(it, pick, hours) if it.basis == "owned" else _card(it, pick, hours)
    if "cost_usd" in found:
        cost = found["cost_usd"]
        found["cost_per_1e24_flop_usd"] = cost / (it.flops / PER_FLOP)
        found["cost_per_1t_tokens_usd"] = cost / (it.tokens / PER_TOKEN)
        found["cost_of_less_usd"] = cost * (1 / (1 - LESS) - 1)
    return found


def _power(it: Subject, pick: Pick, run_s: Num) -> dict[str, Num]:
    board = gpu_power_w(
        it.tdp_w, it.busy, it.talking, idle=pick("idle_share"), message=pick("message_share")
    )
    watts = meter_w(it, pick, board)
    joules = energy_j(watts, run_s)
    made = it.gpus * pick("embodied_kg") * run_s / (pick("it_years") * YEAR_S)
    full = meter_w(it, pick, it.tdp_w)
    sites = np.ones(np.shape(full)) if it.at_home else np.ceil(full / pick("site_w"))
    tariff = pick("household_usd_per_kwh" if it.at_home else "electricity_usd_per_kwh")
    return {
        **_phases(it, pick, watts), "power_w": watts, "energy_j": joules,
        "co2_kg": joules / KWH_J * pick("carbon_kg_per_kwh") + made,
        "embodied_kg": it.gpus * pick("embodied_kg"), "sites": sites,
        "electricity_usd": joules / KWH_J * tariff,
    }  # fmt: skip


def _phases(it: Subject, pick: Pick, watts: Num) -> dict[str, Num]:
    """Average watts by phase of the step and by what stands around the boards; they add up."""
    boards = it.gpus * it.tdp_w
    split: dict[str, Num] = {
        "computing": boards * it.busy,
        "messages": boards * it.talking * pick("message_share"),
        "waiting": boards * (1 - it.busy - it.talking) * pick("idle_share"),
    }
    if it.at_home:
        split["desktop"] = pick("workstation_host_w")
    else:
        split |= {"servers": it.gpus * pick("host_w"), "network": it.gpus * pick("network_w")}
        split["cooling"] = watts - sum(split.values())
    return {f"power.{name}": value for name, value in split.items()}


def meter_w(it: Subject, pick: Pick, board_w: Num) -> Num:
    """Return watts at the meter with boards at `board_w`."""
    if it.at_home:
        return it.gpus * board_w + pick("workstation_host_w")
    host, network, pue = (pick(name) for name in METERED)
    return site_power_w(it.gpus, board_w, host_w=host, network_w=network, pue=pue)


def _owned(it: Subject, pick: Pick, hours: Num) -> dict[str, Num]:
    """Capital and its recovery, upkeep, and electricity at full load, as an hour is priced."""
    full_w = meter_w(it, pick, it.tdp_w)
    machines = it.gpus * it.price_usd * pick("price_share") * pick("it_all_in")
    halls = full_w * pick("facility_usd_per_w")
    rate = pick("cost_of_capital")
    share = hours / HOURS_PER_YEAR
    split = {
        "machines": machines * capital_recovery(rate, pick("it_years")) * share,
        "halls and power": halls * capital_recovery(rate, pick("facility_years")) * share,
        "electricity": full_w / WATTS_PER_KW * pick("electricity_usd_per_kwh") * hours,
        "upkeep": pick("upkeep") * (machines + halls) * share,
    }
    return {
        "capital_usd": machines + halls, "cost_usd": sum(split.values()),
        **{f"split.{name}": usd for name, usd in split.items()},
        "capital.machines": machines, "capital.halls and power": halls,
    }  # fmt: skip


def _card(it: Subject, pick: Pick, hours: Num) -> dict[str, Num]:
    """A card at home: its purchase over its years, and electricity at full load."""
    cards = it.gpus * it.price_usd
    bought = cards * hours / (HOURS_PER_YEAR * pick("card_years"))
    each = it.tdp_w + pick("workstation_host_w")
    power = it.gpus * each / WATTS_PER_KW * pick("household_usd_per_kwh") * hours
    return {
        "capital_usd": cards * np.ones(np.shape(bought)), "cost_usd": bought + power,
        "split.machines": bought, "split.electricity": power, "capital.machines": cards,
    }  # fmt: skip


def likely(ranges: Mapping[str, Assumption]) -> Pick:
    """Return a pick of every assumption's likely value."""
    return lambda name: ranges[name].spread[1]


def taken(
    it: Subject, ranges: Mapping[str, Assumption], *, draws: int, seed: int = 0
) -> dict[str, Taken]:
    """Return every known figure with percentiles of `draws` and the assumption that moves it most.

    Assumptions are independent and triangular between their ends, the run's length lognormal on
    either side of its value.
    """
    rented = "rental" in ranges
    drawn = {name: _drawn(name, one.spread, draws, seed) for name, one in ranges.items()}
    many = outlay(it, drawn.__getitem__, rented=rented)
    middle = outlay(it, likely(ranges), rented=rented)
    ends = {
        name: [outlay(it, _at(ranges, name, end), rented=rented) for end in (0, 2)]
        for name in ranges
    }
    return {
        key: _taken(key, values, float(np.asarray(middle[key])), ends, ranges)
        for key, values in many.items()
    }


def _drawn(name: str, spread: Spread, draws: int, seed: int) -> Num:
    if name == RUN:
        return two_sided(*spread, normal(name, draws, seed))
    return triangle(*spread, uniform(name, draws, seed))


def _at(ranges: Mapping[str, Assumption], moved: str, end: int) -> Pick:
    return lambda name: ranges[name].spread[end if name == moved else 1]


def _taken(
    key: str,
    values: Any,
    middle: float,
    ends: Mapping[str, list[dict[str, Num]]],
    ranges: Mapping[str, Assumption],
) -> Taken:
    p10, p50, p90 = percentiles(values)
    moved = {name: [float(np.asarray(one[key])) for one in pair] for name, pair in ends.items()}
    names = sorted(moved, key=lambda own: -abs(moved[own][1] - moved[own][0]))
    names = [own for own in names if moved[own][0] != moved[own][1]]
    name = names[0] if names else ""
    low, high = moved[name] if names else (middle, middle)
    return Taken(
        p10=p10, p50=p50, p90=p90, likely=middle, mover=name, mover_low=low, mover_high=high,
        source=ranges[name].source if names else "", moved_by=tuple(names),
    )  # fmt: skip
