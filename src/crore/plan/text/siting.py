"""A choice of sites as text, and as the record of `crore sites --json`."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap
from typing import Any, Final

from crore.plan.sites import Demand, Siting, spreads
from crore.units import format_kg, format_si, format_usd, format_watts

SITES_VERSION: Final = 1
HEAD: Final = (
    f"{'site':<18}{'islands':>8}{'power':>10}{'of grid':>9}{'USD/kWh':>9}{'electricity':>13}"
    f"{'carbon':>10}{'WAN':>13}{'pairs':>7}"
)


def sites_record(made: Siting, demand: Demand, target: str) -> dict[str, Any]:
    """Return the document's body."""
    totals = spreads(made)
    return {
        "target": target, "sites": len(made.placed), "islands": demand.islands,
        "island_w": demand.island_w, "power_w": sum(it.power_w for it in made.placed),
        **{key: dict(zip(("p10", "p50", "p90"), values, strict=True))
           for key, values in totals.items()},
        "cost_usd": made.cost_usd, "usd_per_t": demand.usd_per_t, "latency_s": made.latency_s,
        "placed": [
            {
                **{key: value for key, value in asdict(it).items() if key != "site"},
                "site": it.site.name, "title": it.site.title,
                "grid_w": dict(zip(("low", "value", "high"), it.site.grid_w, strict=True)),
                "source": it.site.provenance.source,
            }
            for it in made.placed
        ],
    }  # fmt: skip


def render_sites(made: Siting, demand: Demand) -> str:
    """Return what a terminal shows: how many, what they cost, one line for each."""
    totals = spreads(made)
    usd, kg = (
        f"{show(middle)} ({show(low)} to {show(high)})"
        for show, (low, middle, high) in (
            (format_usd, totals["electricity_usd"]), (format_kg, totals["co2_kg"]),
        )
    )  # fmt: skip
    several = "" if demand.islands == 1 else "s"
    many = "" if len(made.placed) == 1 else "s"
    watts = sum(it.power_w for it in made.placed)
    what = f"{demand.islands} island{several}, {format_watts(watts)} at full load"
    lines = [f"{len(made.placed)} site{many} for {what}: proven cheapest",
             f"            electricity {usd}, carbon {kg}"]  # fmt: skip
    if len(made.placed) > 1:
        lines.append(f"            {1e3 * made.latency_s:.3g} ms one way between the furthest two")
    lines += ["", HEAD]
    for it in made.placed:
        lines.append(
            f"{it.site.name[:17]:<18}{it.islands:>8}{format_watts(it.power_w):>10}"
            f"{it.power_w / it.site.grid_w[1]:>9.0%}{it.site.usd_per_kwh[1]:>9.3f}"
            f"{format_usd(it.usd):>13}{format_kg(it.co2_kg):>10}"
            f"{format_si(8 * it.wan_bytes_per_s, 'bit/s'):>13}{it.fibre_pairs:>7}"
        )
    first = made.placed[0].site.provenance
    lines += ["", f"source      {first.source}"]
    return "\n".join(
        part
        for line in lines
        for part in (wrap(line, COLUMNS, subsequent_indent=" " * 12) if len(line) > COLUMNS
                     else [line])
    )  # fmt: skip


COLUMNS: Final = 120
