"""`crore simulate`: what happens to a plan's run: failures, what survives them, when it ends."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crore.cli.arguments import AsJson, CatalogFile, Output, file_name
from crore.cli.progress import steps
from crore.cli.request import Target
from crore.errors import InputError, UnknownName

if TYPE_CHECKING:
    from crore.simulate.failures import Policy, Run
    from crore.simulate.run import Subject

PolicyName = Annotated[
    str | None,
    typer.Option("--policy", metavar="NAME", help="Survive failures so, not as planned."),
]
Hazard = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Rate of failures over that of Llama 3's cluster (default: unsure)."
    ),
]
Draws = Annotated[int, typer.Option(metavar="N", help="Runs to draw.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same answer.")]
Trace = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=file_name,
        help="Write one step, pass by pass, as a trace for ui.perfetto.dev.",
    ),
]  # fmt: skip
Days = Annotated[float, typer.Option(metavar="N", help="Days of --timeline.")]
Timeline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", parser=file_name,
        help="Write what happens to one run, day by day, as a trace for ui.perfetto.dev.",
    ),
]  # fmt: skip
MOST_DRAWS = 100_000


def simulate(
    target: Target, policy: PolicyName = None, hazard: Hazard = None, draws: Draws = 1000,
    seed: Seed = 0, trace: Trace = None, timeline: Timeline = None, days: Days = 100.0,
    catalog: CatalogFile = None, as_json: AsJson = False, output: Output = None,
) -> None:  # fmt: skip
    """Draw a run: what fails, what survives, when it ends.

    crore simulate plan.json

    It would stand still: exit code 1.
    """
    from crore.cli.document import dumped, written
    from crore.cli.planned import body_of
    from crore.simulate.run import (
        SCHEMA_VERSION,
        record,
        render,
        simulate_plan,
        step_of,
        subject_of,
    )

    _check(draws, seed, hazard, days)
    body = body_of(target, {"catalog": catalog})
    _keep(target, body, [it for it in (output, trace, timeline) if it is not None])
    subject = subject_of(body)
    chosen = _policy(policy, subject)
    run = replace(subject.run, hazard=1.0 if hazard is None else hazard)
    with steps("simulation") as watch:
        step = step_of(body, run, seed)
        done = simulate_plan(
            subject, step, policy=chosen, draws=draws, seed=seed, hazard=hazard, watch=watch
        )
    if output is not None:
        written(output, "simulation", SCHEMA_VERSION, record(done))
    if trace is not None:
        _write(trace, step.timeline.trace())
    if timeline is not None:
        _write(timeline, _days(run, chosen, seed, days))
    typer.echo(dumped("simulation", SCHEMA_VERSION, record(done)) if as_json else render(done))
    if done.stands_still:
        raise typer.Exit(1)


def _check(draws: int, seed: int, hazard: float | None, days: float) -> None:
    if not 1 <= draws <= MOST_DRAWS:
        raise InputError(f"--draws must be 1 to {MOST_DRAWS:,}, not {draws}")
    if seed < 0:
        raise InputError(f"--seed must be 0 or more, not {seed}")
    if hazard is not None and not 0 <= hazard <= 1e6:
        raise InputError(f"--hazard must be 0 to 1,000,000, not {hazard:g}; 1 is as counted")
    if not 0 < days <= 3650:
        raise InputError(f"--days must be above 0 and at most 3650, not {days:g}")


def _policy(name: str | None, subject: "Subject") -> "Policy":
    from crore.simulate.failures import POLICIES

    if name is None:
        return subject.policy
    if name not in POLICIES:
        raise UnknownName("policy", name, POLICIES)
    if name not in subject.applies:
        what = "islands" if name.startswith("islands-") else "worlds"
        raise InputError(
            f"--policy {name} needs several {what}: the plan has one "
            f"(it can do {', '.join(subject.applies)})"
        )
    return name


def _keep(target: str, body: dict[str, Any], outputs: list[Path]) -> None:
    """Refuse outputs that would replace what is read here, or each other."""
    from crore.io import keep_inputs

    request = body["request"]
    model, catalog = Path(request["model"]), request.get("catalog_file")
    inputs = [Path(target), model, model / "config.json", *map(Path, filter(None, [catalog]))]
    for output in outputs:
        keep_inputs(output, inputs)
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise InputError("--output, --trace and --timeline: each needs a file of its own")


def _days(run: "Run", policy: "Policy", seed: int, days: float) -> dict[str, Any]:
    from crore.simulate.failures import chrome_trace, timeline

    return chrome_trace(timeline(run, policy, days=days, seed=seed), run)


def _write(path: Path, trace: dict[str, Any]) -> None:
    import json

    from crore.io import write_text

    # Without spaces a hundred days of ten million GPUs stay under 20 MB.
    write_text(path, json.dumps(trace, separators=(",", ":")))
