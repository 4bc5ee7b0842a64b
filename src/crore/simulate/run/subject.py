"""What a plan says of its run, as the simulator reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crore.errors import InputError, shown
from crore.simulate.failures import Policy, Run, catalogue_run

BY_RECOVERY: Final[Mapping[str, Policy]] = {"disk": "restart-disk", "peer": "restart-peer"}
"""How a plan of one world recovers -> the policy of that name."""
DAY_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """An 80 % interval and its middle."""

    low: float
    value: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A run to simulate."""

    model: str
    gpu: str
    run: Run
    worlds: int
    policy: Policy
    """As planned."""
    applies: tuple[Policy, ...]
    """What this number of worlds and islands can do."""
    work_s: float
    """Seconds when nothing fails and islands learn as one."""
    step_s: Spread
    learning: Spread
    """Progress per token of islands over one run in step."""
    planned_days: float
    """As planned, at the rate of failures as counted."""
    spares_planned: bool
    """Whether the plan leaves GPUs over; else the catalogue's share stands by beside it."""


def subject_of(body: Mapping[str, Any]) -> Subject:
    """Return the run of a plan's record (`plan.json`), its hazards those of the catalogue.

    Raises InputError for a record that lacks a part, or has one of another kind.
    """
    try:
        return _subject(body)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else shown(str(error))
        raise InputError(f"the plan is damaged ({what}): plan it again") from error


def _subject(body: Mapping[str, Any]) -> Subject:
    islands, worlds, gpus = int(body["islands"]), int(body["worlds"]), float(body["gpus"])
    step = _spread(body["step_time_s"])
    steps = float(body["tokens"]) / float(body["global_batch_tokens"])
    outer = body.get("outer_step") or {"interval": 1.0, "exposed_s": 0.0}
    interval, exposed_s = float(outer["interval"]), float(outer["exposed_s"])
    run = catalogue_run(
        gpus=gpus, world_gpus=gpus / worlds, islands=islands, step_s=step.value,
        round_s=interval * step.value + exposed_s,
    )  # fmt: skip
    spares = float(body["spares"])
    if spares:
        run = replace(run, spares=replace(run.spares, share=spares / gpus))
    learning = body.get("learning_efficiency")
    return Subject(
        model=str(body["model"]), gpu=str(body["gpu"]), run=run, worlds=worlds,
        policy=_policy(str(body["recovery"]), islands), applies=_applies(worlds, islands),
        work_s=steps * (step.value + exposed_s / interval), step_s=step,
        learning=_spread(learning) if learning else Spread(low=1.0, value=1.0, high=1.0),
        planned_days=float(body["days"]["value"]), spares_planned=spares > 0,
    )  # fmt: skip


def _spread(part: Mapping[str, Any]) -> Spread:
    return Spread(low=float(part["low"]), value=float(part["value"]), high=float(part["high"]))


def _policy(recovery: str, islands: int) -> Policy:
    if recovery == "quorum":
        return "islands-quorum" if islands > 1 else "quorum"
    return BY_RECOVERY[recovery]


def _applies(worlds: int, islands: int) -> tuple[Policy, ...]:
    """Return the policies that have something to act on: several worlds, several islands."""
    restarts: tuple[Policy, ...] = ("restart-disk", "restart-peer", "hot-spares")
    together: tuple[Policy, ...] = ("elastic", "quorum") if worlds > 1 else ()
    apart: tuple[Policy, ...] = ("islands-barrier", "islands-quorum", "islands-free")
    return restarts + together + (apart if islands > 1 else ())
