"""Which sites, how many islands on each: a mixed-integer programme, solved to proven optimality.

Islands are alike, so whole numbers of them on each place are all that is chosen. With n islands on
a place and y for whether it is used, least is

    Σ n·(energy·(price + tax·carbon)) + y·fixed    over the run

under n·power <= grid, n·bits/s <= WAN, Σ n = islands, n <= most·y, at most so many places, and no
two places used that are further apart than light may travel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from crore.catalog.parts import part
from crore.catalog.sites import Site, distance_km
from crore.cost.fabric_bill import units
from crore.cost.fabric_sites import LIGHT_S_PER_KM
from crore.cost.islands import outer_bytes
from crore.cost.load import hourly_kg
from crore.cost.power import KWH_J
from crore.cost.sampling import DRAWS, percentiles, triangle, uniform
from crore.errors import Infeasible, InputError
from crore.plan.economy import full_load_w

if TYPE_CHECKING:
    import highspy

    from crore.plan.answer import Plan

ROUTE: Final = 1.3
"""Fibre over the great circle; estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What is to be placed."""

    islands: int
    island_w: float
    """At the meter, at full load."""
    island_j: float
    """Energy of the whole run."""
    run_s: float = 0.0
    """How long, for grids whose carbon is known by the hour; 0 for their mean."""
    sent_bytes: float = 0.0
    """An island sends, and receives, each outer step."""
    window_s: float = math.inf
    """In which that has to be through."""
    usd_per_t: float = 0.0
    """Price of a tonne of CO2."""
    fixed_usd: float = 0.0
    """Of using a place at all."""
    most_sites: int = 0
    """Places used at most; 0 for any number."""
    most_latency_s: float = math.inf
    """One way between any two places used."""
    wan_bytes_per_s: float = math.inf
    """Of one place, one direction."""

    def __post_init__(self) -> None:
        """Refuse what cannot be placed; InputError."""
        if self.islands < 1 or not 0 < self.island_w < math.inf:
            raise InputError(
                f"islands to place number 1 or more and draw power, not {self.islands} of "
                f"{self.island_w:g} W"
            )
        amounts = (self.island_j, self.sent_bytes, self.usd_per_t, self.fixed_usd)
        if any(not 0 <= amount < math.inf for amount in amounts) or self.most_sites < 0:
            raise InputError("energy, bytes, prices and the number of sites are not below 0")
        room = (self.window_s, self.most_latency_s, self.wan_bytes_per_s)
        if not all(amount > 0 for amount in room):
            raise InputError("a window, a latency and a bandwidth are above 0")

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth one island needs between sites, each direction."""
        return self.sent_bytes / self.window_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """Islands on one place."""

    site: Site
    islands: int
    power_w: float
    usd: float
    """Electricity of the run, and the fixed price of the place."""
    co2_kg: float
    wan_bytes_per_s: float
    """The outer steps need, each direction; 0 where all islands are here."""
    fibre_pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Siting:
    """The best choice."""

    placed: tuple[Placed, ...]
    """Most islands first."""
    cost_usd: float
    """What was made least, the price of carbon included."""
    latency_s: float
    """Longest one way between two places used, by the route of the fibre."""


def most_islands(site: Site, demand: Demand, case: int = 1) -> int:
    """Return how many islands a place feeds and connects; `case` is 0 low, 1 likely, 2 high."""
    fed = math.floor(site.grid_w[case] / demand.island_w * (1 + 1e-12))
    if not demand.bytes_per_s or math.isinf(demand.wan_bytes_per_s):
        return min(fed, demand.islands)
    sent = math.floor(demand.wan_bytes_per_s / demand.bytes_per_s * (1 + 1e-12))
    return min(fed, sent, demand.islands)


def island_usd(site: Site, demand: Demand, case: int = 1) -> float:
    """Return dollars of one island's energy on a place, the price of its carbon included."""
    price = site.usd_per_kwh[case] + demand.usd_per_t / 1000 * site.carbon_kg_per_kwh[case]
    return demand.island_j / KWH_J * price


def latency_s(one: Site, other: Site) -> float:
    """Return seconds of light in the fibre between two places, one way."""
    return distance_km(one, other) * ROUTE * LIGHT_S_PER_KM


def place_islands(sites: Sequence[Site], demand: Demand, case: int = 1) -> Siting:
    """Return the cheapest sites for the islands and how many stand on each; proven optimal.

    `case` takes grids, prices and carbon at their low (0), likely (1) or high (2) end. Raises
    InputError without sites, Infeasible when they cannot hold the islands, with what would.
    """
    if not sites:
        raise InputError("no site to choose from: give a file with [sites.NAME]")
    most = [most_islands(site, demand, case) for site in sites]
    if sum(most) < demand.islands:
        _too_small(sites, demand, case, sum(most))
    counts = _solve(sites, demand, case, most)
    return _siting(sites, demand, case, counts)


def _too_small(sites: Sequence[Site], demand: Demand, case: int, most: int) -> None:
    watts = sum(site.grid_w[case] for site in sites)
    raise Infeasible(
        f"{len(sites)} sites of {watts / 1e9:.3g} GW hold {most} islands of "
        f"{demand.island_w / 1e6:.3g} MW, not {demand.islands}: more sites, larger grids or "
        f"smaller islands"
    )


def _solve(sites: Sequence[Site], demand: Demand, case: int, most: Sequence[int]) -> list[int]:
    """Return islands per place by branch and cut (HiGHS)."""
    import highspy

    model = _silent()
    model.setOptionValue("mip_rel_gap", 0.0)
    dearest = max(island_usd(site, demand, case) for site in sites)
    scale = max(dearest, demand.fixed_usd, TIE)
    used = [model.addBinary() for _ in sites]
    held = [model.addIntegral(lb=0, ub=k) for k in most]
    for n, y, k in zip(held, used, most, strict=True):
        model.addConstr(n <= k * y)
    model.addConstr(model.qsum(held) == demand.islands)
    if demand.most_sites:
        model.addConstr(model.qsum(used) <= demand.most_sites)
    for i, j in _too_far(sites, demand):
        model.addConstr(used[i] + used[j] <= 1)
    # A thousandth of the least difference: of equal choices the one of fewer places.
    cost: Any = sum(
        island_usd(site, demand, case) / scale * n + (demand.fixed_usd / scale + TIE) * y
        for site, n, y in zip(sites, held, used, strict=True)
    )
    model.minimize(cost)
    status = model.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise Infeasible(_apart(demand, status))
    return [round(model.val(n)) for n in held]


TIE: Final = 1e-7


def _silent() -> highspy.Highs:
    """Return a solver that prints nothing: the banner comes before options can be set from outside.

    It is said while callbacks are enabled, inside the constructor.
    """
    import highspy

    class Silent(highspy.Highs):
        def enableCallbacks(self) -> None:  # noqa: N802  the library's name
            self.setOptionValue("output_flag", False)
            super().enableCallbacks()  # type: ignore[no-untyped-call]

    return Silent()  # type: ignore[no-untyped-call]


def _apart(demand: Demand, status: highspy.HighsModelStatus) -> str:
    rules = [f"{demand.most_sites} sites at most"] if demand.most_sites else []
    if demand.most_latency_s < math.inf:
        rules.append(f"{1e3 * demand.most_latency_s:.3g} ms between any two")
    said = " and ".join(rules) or str(status)
    return f"the grids hold {demand.islands} islands, but not with {said}: relax that"


def _too_far(sites: Sequence[Site], demand: Demand) -> list[tuple[int, int]]:
    pairs = combinations(range(len(sites)), 2)
    return [(i, j) for i, j in pairs if latency_s(sites[i], sites[j]) > demand.most_latency_s]


def _siting(sites: Sequence[Site], demand: Demand, case: int, counts: list[int]) -> Siting:
    chosen = [(site, n) for site, n in zip(sites, counts, strict=True) if n]
    placed = [_placed(site, n, demand, case, alone=len(chosen) == 1) for site, n in chosen]
    carbon = sum(it.co2_kg for it in placed) / 1000 * demand.usd_per_t
    apart = (latency_s(a.site, b.site) for a, b in combinations(placed, 2))
    return Siting(
        placed=tuple(sorted(placed, key=lambda it: (-it.islands, it.site.name))),
        cost_usd=sum(it.usd for it in placed) + carbon,
        latency_s=max(apart, default=0.0),
    )


def _placed(site: Site, n: int, demand: Demand, case: int, *, alone: bool) -> Placed:
    energy_kwh = n * demand.island_j / KWH_J
    carbon = energy_kwh * site.carbon_kg_per_kwh[case]
    if site.carbon_by_hour and demand.run_s:
        average_w = n * demand.island_j / demand.run_s
        carbon = hourly_kg(average_w, demand.run_s / 3600, site.carbon_by_hour)
    rate = 0.0 if alone else n * demand.bytes_per_s
    return Placed(
        site=site, islands=n, power_w=n * demand.island_w,
        usd=energy_kwh * site.usd_per_kwh[case] + demand.fixed_usd,
        co2_kg=carbon, wan_bytes_per_s=rate,
        fibre_pairs=units(rate, part("pair-km", "pair-km")),
    )  # fmt: skip


def demand_of(plan: Plan, rules: Mapping[str, float]) -> Demand:
    """Return what a plan's islands need of their sites; `rules` are fields of Demand.

    InputError for a plan whose power is unknown.
    """
    each_w, energy = full_load_w(plan.question), plan.economy.energy_j
    if each_w is None or energy is None:
        raise InputError(
            f"{plan.question.accelerator.name} has no published board power: give its row a tdp_w"
        )
    rounds, islands = plan.rounds, plan.islands
    step_s = plan.step_time_s.value
    sent = outer_bytes(plan.parameters, islands, rounds.bits) if islands > 1 else 0.0
    fields: dict[str, Any] = {
        "islands": islands, "island_w": each_w * plan.gpus / islands,
        "island_j": energy / islands, "run_s": plan.run_s, "sent_bytes": float(sent),
        "window_s": float(rounds.interval) * step_s,
    }  # fmt: skip
    return Demand(**{**fields, **rules})


def spreads(siting: Siting, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Return (p10, p50, p90) of the run's electricity and carbon over the sites' own ranges.

    Islands stay where the likely figures put them; sites vary independently, triangular.
    """
    totals: dict[str, Any] = {"electricity_usd": 0.0, "co2_kg": 0.0}
    for it in siting.placed:
        for key, spread, likely in (
            ("electricity_usd", it.site.usd_per_kwh, it.usd),
            ("co2_kg", it.site.carbon_kg_per_kwh, it.co2_kg),
        ):
            drawn = triangle(*spread, uniform(f"{it.site.name} {key}", DRAWS, seed))
            totals[key] = totals[key] + likely * drawn / spread[1] if spread[1] else totals[key]
    return {key: percentiles(values) for key, values in totals.items()}
