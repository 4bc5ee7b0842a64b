"""A simulated run as text for a terminal, and as the record of `simulation.json`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from crore.simulate.fabric import FleetStepResult
from crore.simulate.run.step import Step
from crore.simulate.run.whole import HAZARDS, Percentiles, PolicyResult, Simulation
from crore.units import format_duration, format_int, three_digits

SCHEMA_VERSION: Final = 1
LEAST_SHARE: Final = 5e-5
"""A loss that prints as 0.0 % is left out of the table, not of the record."""
MOVERS: Final = 6
"""Parameters shown; the record has all."""
ASSUMED: Final = (
    "rates and times of recovery are those of reliability.toml, most of them estimates",
    "above 100,000 GPUs nobody has published how often anything fails: the rate is continued",
)
"""What stands behind the numbers."""


def record(done: Simulation) -> dict[str, Any]:
    """Return the body of simulation.json."""
    subject, run = done.subject, done.subject.run
    return {
        "model": subject.model, "gpu": subject.gpu, "gpus": int(run.gpus),
        "worlds": subject.worlds, "islands": run.islands, "policy": done.policy,
        "goodput": asdict(done.goodput), "losses": done.losses,
        "finish_days": _dates(done.finish_days), "planned_days": subject.planned_days,
        "stands_still": done.stands_still,
        "mtbf_s": run.mtbf_s if math.isfinite(run.mtbf_s) else None, "hazard": done.hazard,
        "hazard_unsure": asdict(done.unsure) if done.unsure else None,
        "step": _step_record(done.step), "policies": [asdict(it) for it in done.policies],
        "elasticities": done.moves, "assumed": list(_assumed(done)), "draws": done.draws,
        "seed": done.seed, "cpu_s": done.cpu_s,
    }  # fmt: skip


def _dates(days: Percentiles | None) -> dict[str, float] | None:
    return None if days is None else asdict(days)


def _step_record(step: Step) -> dict[str, Any]:
    fleet = step.fleet
    return {
        "planned_s": step.timeline.planned_s, "played_s": step.timeline.step_s,
        "fleet": None if fleet is None else {
            "undisturbed_s": fleet.ideal_s, "median_island_s": _finite(fleet.quantile_s(0.5)),
            "slowest_island_s": _finite(fleet.step_s), "held_up_by": fleet.slowed_by(),
            "stragglers": fleet.stragglers, "degraded_gpus": fleet.degraded_gpus,
            "dead_leaf_switches": fleet.dead_leaf_switches, "dead_uplinks": fleet.dead_uplinks,
            "lost_worlds": int(fleet.lost_worlds.sum()),
        },
    }  # fmt: skip


def _finite(seconds: float) -> float | None:
    """Return seconds, or None of an island that lost all its worlds."""
    return seconds if math.isfinite(seconds) else None


def render(done: Simulation) -> str:
    """Return what a terminal shows: verdict, policies, losses, what moves it most."""
    return "\n".join(_lines(done))


def _lines(done: Simulation) -> Iterator[str]:
    yield _verdict(done)
    yield _subject(done)
    yield ""
    yield from _policies(done)
    yield ""
    yield f"where the time goes under {done.policy}"
    yield from _losses(done)
    yield ""
    yield from _movers(done)
    yield ""
    yield from _step(done.step)
    yield _drawn(done)
    for line in _assumed(done):
        yield f"assumed     {line}"


def _assumed(done: Simulation) -> Iterator[str]:
    spares = done.subject.run.spares.share
    whose = "left over by the plan" if done.subject.spares_planned else "beside the plan's GPUs"
    yield f"{100 * spares:.2g} % of the GPUs stand by as spares, {whose}"
    yield from ASSUMED


def _verdict(done: Simulation) -> str:
    share, days = done.goodput, done.finish_days
    if done.stands_still or days is None:
        best = done.best
        return (
            f"STANDS STILL  {done.policy} makes progress {_share(share.p50)} of the time; "
            f"{best.policy} would {_share(best.goodput)}"
        )
    return (
        f"FINISHES  in {_three(days)} days ({_range(days)}, 80 %); makes progress "
        f"{_share(share.p50)} of the time ({_share(share.p10)} to {_share(share.p90)}) by "
        f"{done.policy}"
    )


def _three(days: Percentiles) -> str:
    return three_digits(days.p50)


def _subject(done: Simulation) -> str:
    subject, run = done.subject, done.subject.run
    worlds = f"{format_int(subject.worlds)} worlds" if subject.worlds > 1 else "one world"
    islands = f" on {format_int(run.islands)} islands" if run.islands > 1 else ""
    return (
        f"{subject.model} on {format_int(run.gpus)} x {subject.gpu} in {worlds}{islands}: "
        f"something stops every {format_duration(run.mtbf_s)}\n"
        f"planned     {three_digits(subject.planned_days)} days, at hazard x1 by closed form"
    )


def _policies(done: Simulation) -> Iterator[str]:
    heads = "".join(f"{f'hazard x{times:g}':>14}{'days':>16}" for times in HAZARDS)
    yield f"{'policy':<16}{heads}"
    for name in (it.policy for it in done.at(HAZARDS[0])):
        mark = "  <- the plan's" if name == done.subject.policy else ""
        cells = "".join(
            _cell(it) for times in HAZARDS for it in done.at(times) if it.policy == name
        )
        yield f"{name:<16}{cells}{mark}"


def _cell(it: PolicyResult) -> str:
    days = "never" if it.finish_days is None else _range(it.finish_days)
    return f"{it.goodput:>14.3f}{days:>16}"


def _range(days: Percentiles) -> str:
    low, high = (three_digits(x) for x in (days.p10, days.p90))
    return low if low == high else f"{low} to {high}"


def _losses(done: Simulation) -> Iterator[str]:
    yield f"  {'progress':<20}{_percent(1 - sum(done.losses.values())):>8}"
    for cause, share in sorted(done.losses.items(), key=lambda it: -it[1]):
        if share >= LEAST_SHARE:
            yield f"  {cause:<20}{_percent(share):>8}"


def _movers(done: Simulation) -> Iterator[str]:
    yield f"{'what moves it most':<30}  goodput for 1 % more of it"
    for name, slope in list(done.moves.items())[:MOVERS]:
        yield f"  {name:<28}{slope:>+8.4f} %"


def _step(step: Step) -> Iterator[str]:
    line = step.timeline
    yield (
        f"one step    {three_digits(line.step_s)} s played pass by pass; planned "
        f"{three_digits(line.planned_s)} s ({100 * line.gap:+.1f} %)"
    )
    fleet = step.fleet
    if fleet is None:
        return
    yield (
        f"            on its network, {format_int(fleet.stragglers)} GPUs slow and "
        f"{format_int(fleet.degraded_gpus)} with a dead link: {_slowest(fleet)}"
    )
    most = ", ".join(
        f"{cause} {100 * share:.0f} %" for cause, share in
        sorted(fleet.slowed_by().items(), key=lambda it: -it[1]) if share
    )  # fmt: skip
    if most:
        yield f"            islands are held up most by {most}"


def _slowest(fleet: FleetStepResult) -> str:
    if math.isfinite(fleet.step_s):
        return f"the slowest island {100 * (fleet.step_s / fleet.ideal_s - 1):+.0f} %"
    stopped = int(np.isinf(fleet.island_s).sum())
    return (
        f"{format_int(stopped)} of {format_int(fleet.island_s.size)} islands cut off until repaired"
    )


def _drawn(done: Simulation) -> str:
    unsure = done.unsure
    rate = f"the rate of failures x{done.hazard:g} that of arXiv 2407.21783"
    if unsure:
        factor = math.exp(unsure.sigma)
        rate = (
            f"the rate of failures unsure: x{unsure.median:g}, give or take a factor {factor:.1f}"
        )
    runs = f"{format_int(done.draws)} runs, seed {done.seed}, {done.cpu_s:.1f} CPU s"
    return f"drawn       {runs}; {rate}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= STALLED_SHOWN else f"{share:.1e}"


STALLED_SHOWN: Final = 0.005
"""A share that prints as a whole per cent."""
