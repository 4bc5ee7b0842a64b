"""`crore sites`: which sites hold a plan's islands, at the least cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, Output, file_name
from crore.cli.complete import complete_target
from crore.errors import InputError

if TYPE_CHECKING:
    from crore.plan import PlanRequest

Target = Annotated[
    str,
    typer.Argument(
        metavar="MISSION", help="A mission, its file, or a plan.json.",
        autocompletion=complete_target,
    ),
]  # fmt: skip
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", parser=file_name, help="Your own places (TOML)."),
]
Carbon = Annotated[float, typer.Option(metavar="USD", help="Price of a tonne of CO2.")]
Fixed = Annotated[float, typer.Option(metavar="USD", help="Cost of using a place at all.")]
Most = Annotated[int, typer.Option(metavar="N", help="Places used at most; 0 for any number.")]
Latency = Annotated[
    float | None, typer.Option("--latency-ms", metavar="MS", help="One way, between any two.")
]


def sites(
    target: Target, places: From = None, carbon_price: Carbon = 0.0, fixed: Fixed = 0.0,
    most: Most = 0, latency_ms: Latency = None, catalog: CatalogFile = None,
    as_json: AsJson = False, output: Output = None,
) -> None:  # fmt: skip
    """Choose sites for a plan's islands.

    crore sites ten_million --carbon-price 50

    The grids cannot hold it: exit code 1.
    """
    from crore.catalog.sites import load_sites, read_sites
    from crore.cli.document import dumped, written
    from crore.cli.plan import made
    from crore.plan.sites import demand_of, place_islands
    from crore.plan.text.siting import SITES_VERSION, render_sites, sites_record

    rules: dict[str, Any] = {"usd_per_t": carbon_price, "fixed_usd": fixed, "most_sites": most}
    if latency_ms is not None:
        rules["most_latency_s"] = latency_ms / 1e3
    keep(output, target, catalog, places)
    known = load_sites() if places is None else read_sites(places)
    plan = made(wanted(target, catalog)).plan
    demand = demand_of(plan, rules)
    found = place_islands(list(known.values()), demand)
    record = sites_record(found, demand, target)
    if output is not None:
        written(output, "sites", SITES_VERSION, record)
    typer.echo(dumped("sites", SITES_VERSION, record) if as_json else render_sites(found, demand))


def keep(output: Path | None, target: str, *others: Path | None) -> None:
    """Refuse an output that would replace a file that is read here."""
    from crore.io import keep_inputs

    if output is not None:
        keep_inputs(output, [Path(target), *filter(None, others)])


def wanted(target: str, catalog: Path | None) -> "PlanRequest":
    """Return the request of a mission or of a plan file; InputError for neither."""
    from crore.cli.request import laid_over
    from crore.io import exists
    from crore.plan import read_mission, read_saved

    path = Path(target)
    saved = read_saved(path) if target.endswith(".json") and exists(path) else None
    if saved is not None:
        return saved.request
    mission = read_mission(target)
    if mission is None:
        raise InputError(
            f"{target[:60]} is no mission and no plan: crore plan … -o plan.json makes one"
        )
    return laid_over(mission, target, {"catalog": catalog})
