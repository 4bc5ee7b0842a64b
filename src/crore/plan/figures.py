"""What a plan takes, each figure with its range and the assumption that moves it most."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from crore.catalog.economics import load_economics
from crore.catalog.supply import scenario
from crore.cost.load import Load, load_of
from crore.cost.outlay import Basis, Subject, Taken, assumptions, likely, outlay, taken
from crore.cost.reach import drawn_years, movers_of
from crore.cost.sampling import DRAWS, percentiles
from crore.cost.scenario import Course, middle, ramp_of
from crore.cost.supply import years_to
from crore.plan.answer import Plan
from crore.plan.economy import at_home, scenario_of, shares_of
from crore.plan.request import DAY_S, RENTED

SEED: Final = 0
LOW: Final = ("dp", "stragglers", "offload")
"""Parts of a step in which every GPU waits for messages, all at once."""
FIGURES: Final[Mapping[str, tuple[str, str]]] = {
    "cost_usd": ("USD", "of the whole run"),
    "capital_usd": ("USD", "to buy the machines, halls and power"),
    "power_w": ("W", "at the meter while it runs, cooling included"),
    "energy_j": ("J", "of the whole run"),
    "co2_kg": ("kg", "CO2 of the energy, and the run's share of making the machines"),
    "sites": ("sites", "that feed it at full load"),
    "ready_year": ("year", "in which supply has delivered its GPUs"),
    "cost_per_1e24_flop_usd": ("USD", "per 1e24 model FLOP"),
    "cost_per_1t_tokens_usd": ("USD", "per trillion tokens"),
    "cost_of_less_usd": ("USD", "that a tenth less efficiency adds"),
    "electricity_usd": ("USD", "for the energy alone"),
    "rental_usd": ("USD", "were every GPU-hour rented"),
    "embodied_kg": ("kg", "CO2 of making all the machines"),
}
"""Key of the plan file -> its unit, what it is."""
OUTER: Final = "supply."


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Everything a plan takes beside GPUs and time."""

    taken: Mapping[str, Taken | None]
    """By the keys of FIGURES; None where a figure it needs is unknown."""
    cost_split_usd: Mapping[str, float]
    """What the run's dollars go to, at likely values; empty where rented or unknown."""
    capital_split_usd: Mapping[str, float]
    power_split_w: Mapping[str, float]
    """Average watts by phase of the step, servers, network and cooling, likely."""
    load: Load | None
    supply: str
    """Scenario that `ready_year` follows."""


def subject_of(plan: Plan) -> Subject:
    """Return what money and power need of a plan."""
    q, days = plan.question, plan.days
    part, rounds = q.accelerator, plan.economy.usd_basis
    basis: Basis = "owned" if rounds.startswith("owned") else "unknown"
    basis = "card" if "home" in rounds else "rented" if rounds == RENTED else basis
    busy, talking = shares_of(plan.step_split_s)
    flops = plan.model_flops_per_s * plan.step_time_s.value * plan.gpus
    return Subject(
        gpus=float(plan.gpus), tdp_w=part.tdp_w, price_usd=part.price_usd, busy=busy,
        talking=talking, run_s=(days.low * DAY_S, plan.run_s, days.high * DAY_S),
        flops=flops * q.tokens / plan.global_batch_tokens, tokens=float(q.tokens),
        at_home=at_home(q, plan.gpus), basis=basis,
    )  # fmt: skip


def figures_of(plan: Plan) -> Figures:
    """Return every figure of a plan with its range, drawn with one seed."""
    q, it = plan.question, subject_of(plan)
    ranges = assumptions(it, load_economics().of(q.accelerator.name), q.accelerator.name)
    found = taken(it, ranges, draws=DRAWS, seed=SEED)
    point = outlay(it, likely(ranges), rented="rental" in ranges)
    all_taken = {**found, "ready_year": _ready(scenario_of(q), float(plan.gpus))}
    load = None
    if it.tdp_w:
        low_s = sum(plan.step_split_s.get(name, 0.0) for name in LOW)
        load = load_of(it.gpus, it.tdp_w, plan.islands, sum(plan.step_split_s.values()), low_s)
    return Figures(
        taken={key: all_taken.get(key) for key in FIGURES},
        cost_split_usd=_split(point, "split."),
        capital_split_usd=_bought(plan, _split(point, "capital.")),
        power_split_w=_split(point, "power."), load=load, supply=scenario_of(q),
    )  # fmt: skip


def _split(point: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {k.removeprefix(prefix): float(v) for k, v in point.items() if k.startswith(prefix)}


def _bought(plan: Plan, split: dict[str, float]) -> dict[str, float]:
    """Tell accelerators and the network, by its own bill, from hosts and storage."""
    design, machines = plan.network.design, split.pop("machines", 0.0)
    if not machines:
        return split
    network = 0.0 if design is None else plan.islands * design.price_usd.value
    parts = plan.gpus * plan.question.accelerator.price_usd
    network = min(network, machines - parts)
    rest = machines - parts - network
    return {"accelerators": parts, "network": network, "hosts and storage": rest, **split}


@functools.lru_cache(maxsize=64)
def _ready(name: str, gpus: float) -> Taken:
    """Return the year in which one buyer has had so many GPUs delivered; infinite for never."""
    course = Course(scenario=scenario(name), own={})
    begin = course.scenario.begin
    p10, p50, p90 = percentiles(drawn_years(course, gpus, draws=DRAWS, seed=SEED))
    moved = movers_of(course, gpus)
    point = begin + float(years_to(ramp_of(course, middle), gpus)[0])
    first = moved[0] if moved else None
    return Taken(
        p10=begin + p10, p50=begin + p50, p90=begin + p90, likely=point,
        mover=OUTER + first.name if first else "",
        mover_low=begin + first.low if first else point,
        mover_high=begin + first.high if first else point,
        source=first.source if first else "", moved_by=tuple(OUTER + it.name for it in moved),
    )  # fmt: skip


def figures_record(it: Figures) -> dict[str, Any]:
    """Return the figures as keys of the plan file; null where unknown, or never."""
    return {
        **{key: _taken_record(one) for key, one in it.taken.items()},
        "cost_split_usd": dict(it.cost_split_usd),
        "capital_split_usd": dict(it.capital_split_usd),
        "power_split_w": dict(it.power_split_w),
        "load": None if it.load is None else asdict(it.load),
        "supply": it.supply,
    }


def _taken_record(one: Taken | None) -> dict[str, Any] | None:
    if one is None:
        return None
    ends = {name: _finite(getattr(one, name)) for name in ("p10", "p50", "p90", "likely")}
    mover = {
        "name": one.mover, "low": _finite(one.mover_low), "high": _finite(one.mover_high),
        "source": one.source,
    }  # fmt: skip
    return {**ends, "moved_by": mover if one.mover else None}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
