"""`crore supply`: when a buyer's fleet is large enough, and when to start a run on it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, Output
from crore.cli.complete import complete_target
from crore.errors import Infeasible, InputError

if TYPE_CHECKING:
    from crore.cost.scenario import Course
    from crore.plan import Plan
    from crore.plan.request import PlanRequest
    from crore.simulate.supply import Phase, Starts

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[MISSION]", help="A mission, its file, or a plan.json.",
        autocompletion=complete_target,
    ),
]  # fmt: skip
ScenarioName = Annotated[
    str | None,
    typer.Option("--scenario", metavar="NAME", help="article, foundry, announced (default) …"),
]
Units = Annotated[str | None, typer.Option(metavar="N", help="GPUs to wait for: 10M.")]
H100 = Annotated[str | None, typer.Option("--h100e", metavar="N", help="The same in H100s' worth.")]
Rate = Annotated[str | None, typer.Option(metavar="N", help="Units a year, instead of the caps.")]
Growth = Annotated[float | None, typer.Option(metavar="X", help="Growth of supply a year: 0.2.")]
Share = Annotated[float | None, typer.Option(metavar="X", help="Share that goes to the buyer.")]
Attrition = Annotated[float | None, typer.Option(metavar="X", help="Share that breaks a year.")]
Life = Annotated[float | None, typer.Option(metavar="Y", help="Years until a unit is retired.")]
Draws = Annotated[int, typer.Option(metavar="N", help="Draws of the ranges.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same answer.")]
MOST_DRAWS = 10_000
"""Each draw is a fleet over sixty years."""
START_DRAWS = 200
PHASES = (100, 10, 1)
"""Parts of the fleet that are planned: a hundredth, a tenth, all."""
NEVER = 1


def supply(
    target: Target = None, scenario: ScenarioName = None, units: Units = None, h100e: H100 = None,
    rate: Rate = None, growth: Growth = None, share: Share = None, attrition: Attrition = None,
    life: Life = None, draws: Draws = 1000, seed: Seed = 0, catalog: CatalogFile = None,
    as_json: AsJson = False, output: Output = None,
) -> None:  # fmt: skip
    """See when the GPUs are there, and when to start.

    crore supply --scenario article --units 10M

    It never gets there: exit code 1, and why.
    """
    from crore.cli.arguments import optional_count
    from crore.cli.document import dumped, written
    from crore.cli.sites import keep
    from crore.simulate.supply import SUPPLY_VERSION, render_supply, starts_of, supply_of
    from crore.simulate.supply import supply_record as record

    if not 1 <= draws <= MOST_DRAWS or seed < 0:
        raise InputError(f"--draws is 1 to {MOST_DRAWS:,} and --seed 0 or more")
    own = {"units_per_year": optional_count(rate, "--rate"), "growth_per_year": growth,
           "buyer_share": share, "attrition_per_year": attrition, "life_years": life}  # fmt: skip
    given = {name: float(value) for name, value in own.items() if value is not None}
    counts = [optional_count(x, flag) or 0 for x, flag in ((units, "--units"), (h100e, "--h100e"))]
    if target is None and scenario is None:
        raise InputError("crore supply needs a mission or --scenario, for example "
                         "crore supply --scenario article --units 10M")  # fmt: skip
    keep(output, target or "", catalog)
    plans = _plans(target, catalog) if target is not None else []
    course = _course(scenario, plans, given)
    if plans and not any(counts):
        counts[0] = plans[-1].gpus
    phases = [_phase(plan) for plan in plans]
    starts: tuple[Starts, ...] = ()
    if plans:
        days = plans[-1].days
        starts = starts_of(
            course, [phase for phase, _ in phases], (days.low, days.value, days.high),
            draws=min(draws, START_DRAWS), seed=seed,
        )  # fmt: skip
    found = supply_of(
        course, target=target or "", units=counts[0], h100=counts[1], phases=phases,
        starts=starts, draws=draws, seed=seed,
    )  # fmt: skip
    if output is not None:
        written(output, "supply", SUPPLY_VERSION, record(found))
    typer.echo(dumped("supply", SUPPLY_VERSION, record(found)) if as_json else render_supply(found))
    if found.never:
        raise typer.Exit(NEVER)


def _course(name: str | None, plans: "list[Plan]", own: dict[str, float]) -> "Course":
    """Return the named scenario, or the one a plan's GPUs come from."""
    from crore.catalog.supply import scenario
    from crore.cost.scenario import Course
    from crore.plan.economy import scenario_of

    return Course(scenario=scenario(name or scenario_of(plans[-1].question)), own=own)


def _plans(target: str, catalog: Path | None) -> "list[Plan]":
    """Return the plans of a mission on parts of its fleet, the smallest first; last the whole."""
    from crore.cli.plan import made
    from crore.cli.sites import wanted

    request = wanted(target, catalog)
    whole = made(request).plan
    return [*_parts(request, whole), whole]


def _parts(request: "PlanRequest", whole: "Plan") -> "list[Plan]":
    """Return the plans on a hundredth and a tenth of the fleet, where the run fits there."""
    from crore.plan import make_plan

    found = []
    for part in PHASES[:-1]:
        node = whole.question.accelerator.node_size
        gpus = whole.question.gpus // part // node * node
        if gpus < node:
            continue
        smaller: dict[str, Any] = {"gpus": gpus, "sites": 0, "cluster": ""}
        if request.cluster:
            smaller["gpu"] = whole.question.accelerator.name
        try:
            found.append(make_plan(replace(request, top=1, **smaller)).plan)
        except (Infeasible, InputError):
            continue
    return found


def _phase(plan: "Plan") -> "tuple[Phase, str]":
    from crore.simulate.supply import Phase

    it = plan.layout
    layout = ", ".join(f"{key} {it[key]}" for key in ("tp", "cp", "ep", "pp", "dp") if it[key] > 1)
    islands = f"{plan.islands} islands of {plan.worlds // plan.islands} worlds, "
    words = f"{islands if plan.islands > 1 else ''}{layout or 'one GPU'}, MFU {plan.mfu:.0%}"
    return Phase(gpus=float(plan.gpus), run_s=plan.run_s), words
