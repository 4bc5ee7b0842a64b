"""The choice of sites is the best there is: held against every choice, and quick at full size."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace

import numpy as np
import pytest

from crore.catalog.sites import Site, build_site, distance_km, load_sites, read_sites
from crore.catalog.types import Provenance
from crore.errors import Infeasible, InputError
from crore.plan.sites import (
    Demand,
    island_usd,
    latency_s,
    most_islands,
    place_islands,
    spreads,
)

NOBODY = Provenance(source="a test", date="2026", verified=True, figures={}, note="")
SOURCED = {"source": "a test", "date": "2026"}
GW = 1e9


def site(name, grid=1.0, usd=0.05, carbon=0.3, latitude=40.0, longitude=0.0):
    return Site(
        name=name, title=name, latitude=latitude, longitude=longitude, grid_w=(grid * GW,) * 3,
        usd_per_kwh=(usd,) * 3, carbon_kg_per_kwh=(carbon,) * 3, provenance=NOBODY,
    )  # fmt: skip


def random_case(rng, sites=5, islands=6):
    """Return places and a demand with every rule in play."""
    places = [
        site(f"s{k}", grid=rng.uniform(0.2, 2.0), usd=rng.uniform(0.03, 0.1),
             carbon=rng.uniform(0, 0.8), latitude=rng.uniform(25, 60),
             longitude=rng.uniform(-120, 20))
        for k in range(sites)
    ]  # fmt: skip
    demand = Demand(
        islands=int(rng.integers(1, islands + 1)), island_w=rng.uniform(0.1, 0.5) * GW,
        island_j=rng.uniform(1e14, 1e15), usd_per_t=float(rng.choice([0.0, 50.0, 200.0])),
        fixed_usd=float(rng.choice([0.0, 1e6, 1e7])), most_sites=int(rng.choice([0, 2, 3])),
        most_latency_s=float(rng.choice([math.inf, 0.03, 0.015])),
        sent_bytes=1e12, window_s=60.0, wan_bytes_per_s=float(rng.choice([math.inf, 4e10])),
    )  # fmt: skip
    return places, demand


def brute(places, demand):
    """Return the least cost over every way to place the islands; infinite for none."""
    best = math.inf
    most = [most_islands(place, demand) for place in places]
    for counts in itertools.product(*(range(k + 1) for k in most)):
        used = [k for k, n in enumerate(counts) if n]
        if sum(counts) != demand.islands or 0 < demand.most_sites < len(used):
            continue
        pairs = itertools.combinations(used, 2)
        if any(latency_s(places[i], places[j]) > demand.most_latency_s for i, j in pairs):
            continue
        cost = sum(n * island_usd(places[k], demand) for k, n in enumerate(counts))
        best = min(best, cost + demand.fixed_usd * len(used))
    return best


def test_the_choice_is_the_best_of_all():
    rng = np.random.default_rng(0)
    solved = refused = 0
    for _ in range(80):
        places, demand = random_case(rng)
        least = brute(places, demand)
        if math.isinf(least):
            with pytest.raises(Infeasible):
                place_islands(places, demand)
            refused += 1
            continue
        found = place_islands(places, demand)
        assert found.cost_usd == pytest.approx(least, rel=1e-5)
        assert sum(it.islands for it in found.placed) == demand.islands
        assert found.latency_s <= demand.most_latency_s
        for it in found.placed:
            assert it.power_w <= it.site.grid_w[1] * (1 + 1e-9)
            assert it.wan_bytes_per_s <= demand.wan_bytes_per_s * (1 + 1e-9)
        solved += 1
    assert solved >= 50
    assert refused >= 5


def test_thirty_places_for_a_hundred_islands_take_seconds():
    rng = np.random.default_rng(1)
    places, _ = random_case(rng, sites=30)
    demand = Demand(
        islands=100, island_w=0.1 * GW, island_j=1e15, usd_per_t=100.0, fixed_usd=1e7,
        most_sites=12, most_latency_s=0.04,
    )  # fmt: skip
    started = time.process_time()
    found = place_islands(places, demand)
    assert time.process_time() - started < 5.0
    assert sum(it.islands for it in found.placed) == 100


def test_the_cheap_place_is_filled_first_and_a_price_of_carbon_turns_that():
    dirty, clean = site("dirty", usd=0.04, carbon=0.8), site("clean", usd=0.06, carbon=0.0)
    demand = Demand(islands=5, island_w=0.25 * GW, island_j=1e15)
    free = place_islands([dirty, clean], demand)
    taxed = place_islands([dirty, clean], replace(demand, usd_per_t=100.0))
    assert [(it.site.name, it.islands) for it in free.placed] == [("dirty", 4), ("clean", 1)]
    assert [(it.site.name, it.islands) for it in taxed.placed] == [("clean", 4), ("dirty", 1)]


def test_outer_steps_need_what_they_send_in_their_window():
    """350 Gbit/s a site is 0.35 Tb/s: thirty trillion parameters in 4 bits, 50 steps of 13.2 s."""
    sent = 2 * 19 / 20 * 30e12 * 4 / 8
    demand = Demand(islands=2, island_w=GW, island_j=1.0, sent_bytes=sent, window_s=50 * 13.2)
    found = place_islands([site("a"), site("b")], demand)
    assert found.placed[0].wan_bytes_per_s * 8 / 1e12 == pytest.approx(0.35, abs=0.01)
    assert found.placed[0].fibre_pairs == 1
    alone = place_islands([site("a", grid=2.0)], demand)
    assert alone.placed[0].wan_bytes_per_s == 0.0


def test_carbon_by_the_hour_counts_the_hours_of_the_run():
    """Half a day from midnight, dirty by night until six: (6 x 0.6 + 6 x 0.2)/12 = 0.4."""
    hours = [0.6] * 6 + [0.2] * 12 + [0.6] * 6
    given = {key: value for key, value in row().items() if key != "carbon_kg_per_kwh"}
    place = build_site("x", {**given, "carbon_kg_per_kwh_by_hour": hours}, {})
    assert place.carbon_kg_per_kwh[1] == pytest.approx(0.4)
    demand = Demand(islands=1, island_w=1e6, island_j=1e6 * 6 * 3600, run_s=6 * 3600.0)
    assert place_islands([place], demand).placed[0].co2_kg == pytest.approx(6000 * 0.6)
    with pytest.raises(InputError, match="24 numbers"):
        build_site("x", {**given, "carbon_kg_per_kwh_by_hour": [1.0]}, {})


def test_the_spread_is_that_of_the_places_and_holds_the_likely_sum():
    places = load_sites()
    demand = Demand(islands=8, island_w=0.25 * GW, island_j=1e15)
    found = place_islands(list(places.values()), demand)
    usd = sum(it.usd for it in found.placed)
    low, middle, high = spreads(found)["electricity_usd"]
    assert low < middle < high
    assert low < usd < high
    assert spreads(found) == spreads(found)


def test_the_shipped_places_are_sound():
    places = load_sites()
    assert len(places) >= 15
    paris, montreal = places["france"], places["quebec"]
    assert distance_km(paris, montreal) == pytest.approx(5550, rel=0.02)
    assert sum(place.grid_w[1] for place in places.values()) > 20 * GW


def row(**more):
    return {
        "latitude": 40, "longitude": -100, "grid_mw": 1000, "usd_per_kwh": 0.05,
        "carbon_kg_per_kwh": [0.1, 0.2, 0.3], **SOURCED, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"grid_mw": 0}, "has no grid"),
        ({"grid_mw": [3, 2, 1]}, "low <= value"),
        ({"grid_mw": -5}, ">= 0"),
        ({"grid_mw": [1, 2]}, r"\[low, value, high\]"),
        ({"latitude": 120}, "no latitude"),
        ({"price": 1}, "price"),
    ],
)
def test_a_place_that_is_none_is_refused(more, words):
    with pytest.raises(InputError, match=words):
        build_site("x", row(**more), {})


def test_a_file_without_places_is_refused(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("[other]\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"write \[sites.NAME\]"):
        read_sites(path)


def test_what_the_grids_cannot_hold_says_what_would():
    demand = Demand(islands=9, island_w=0.5 * GW, island_j=1.0)
    with pytest.raises(Infeasible, match=r"2 sites of 2 GW hold 4 islands of 500 MW, not 9"):
        place_islands([site("a"), site("b")], demand)
    near = Demand(islands=4, island_w=0.5 * GW, island_j=1.0, most_latency_s=1e-3)
    with pytest.raises(Infeasible, match="1 ms between any two"):
        place_islands([site("a"), site("b", longitude=90.0)], near)
    with pytest.raises(InputError, match="no site"):
        place_islands([], demand)


@pytest.mark.parametrize(
    "more", [{"islands": 0}, {"island_w": 0.0}, {"usd_per_t": -1.0}, {"window_s": 0.0}]
)
def test_a_demand_that_is_none_is_refused(more):
    sound = {"islands": 1, "island_w": 1.0, "island_j": 1.0}
    with pytest.raises(InputError):
        Demand(**{**sound, **more})
