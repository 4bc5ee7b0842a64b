"""What a plan says of its run, as the simulator reads it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from crore.errors import InputError, UnknownName, shown
from crore.simulate.failures import RESTARTS, Policy, Run, catalogue_run

BY_RECOVERY: Final[Mapping[str, Policy]] = {"disk": "restart-disk", "peer": "restart-peer"}
"""How a plan of one world recovers -> the policy of that name."""
ALONE: Final[Mapping[str, float]] = {"interval": 1.0, "exposed_s": 0.0}
"""The outer step of a plan of one island: none."""
MOST: Final = 10**10
"""GPUs of a plan that is not damaged, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """An 80 % interval and its middle."""

    low: float
    value: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high < math.inf:
            raise InputError(
                f"an interval has 0 < low <= value <= high, not {self.low:g}, {self.value:g} and "
                f"{self.high:g}"
            )


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
    except (KeyError, ValueError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)[:120]
        raise InputError(f"the plan is damaged ({what}): plan it again") from error


def _subject(body: Mapping[str, Any]) -> Subject:
    islands, worlds, gpus = (_count(body, key) for key in ("islands", "worlds", "gpus"))
    step = _spread(body, "step_time_s")
    steps = _number(body, "tokens") / _number(body, "global_batch_tokens")
    outer = _part(body, "outer_step") if islands > 1 else ALONE
    interval, exposed_s = _number(outer, "interval"), _number(outer, "exposed_s", zero=True)
    run = catalogue_run(
        gpus=float(gpus), world_gpus=gpus / worlds, islands=islands, step_s=step.value,
        round_s=interval * step.value + exposed_s,
    )  # fmt: skip
    spares = _number(body, "spares", zero=True)
    if spares:
        run = replace(run, spares=replace(run.spares, share=spares / gpus))
    return Subject(
        model=_word(body, "model"), gpu=_word(body, "gpu"), run=run, worlds=worlds,
        policy=_policy(_word(body, "recovery"), islands), applies=_applies(worlds, islands),
        work_s=steps * (step.value + exposed_s / interval), step_s=step,
        learning=_spread(body, "learning_efficiency"),
        planned_days=_number(_part(body, "days"), "value"), spares_planned=spares > 0,
    )  # fmt: skip


def _spread(body: Mapping[str, Any], key: str) -> Spread:
    part = _part(body, key)
    return Spread(**{end: _number(part, end) for end in ("low", "value", "high")})


def _part(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = body[key]
    if not isinstance(part, Mapping):
        raise ValueError(f"{key} must be an object, not {shown(part)}")
    return part


def _number(part: Mapping[str, Any], key: str, *, zero: bool = False) -> float:
    value = part[key]
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not (0 < value <= sys.float_info.max or (zero and value == 0)):
        least = "0 or more" if zero else "above 0"
        raise ValueError(f"{key} must be a number {least}, not {shown(value)}")
    return float(value)


def _count(part: Mapping[str, Any], key: str) -> int:
    value = _number(part, key)
    if not value.is_integer() or value > MOST:
        raise ValueError(f"{key} must be a whole number up to {MOST:,}, not {shown(value)}")
    return int(value)


def _word(part: Mapping[str, Any], key: str) -> str:
    value = part[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} must be a word, not {shown(value)}")
    return value


def _policy(recovery: str, islands: int) -> Policy:
    if recovery == "quorum":
        return "islands-quorum" if islands > 1 else "quorum"
    if recovery not in BY_RECOVERY:
        raise UnknownName("recovery of the plan", recovery, ("quorum", *BY_RECOVERY))
    return BY_RECOVERY[recovery]


def _applies(worlds: int, islands: int) -> tuple[Policy, ...]:
    """Return the policies that have something to act on: several worlds, several islands."""
    together: tuple[Policy, ...] = ("elastic", "quorum") if worlds > 1 else ()
    apart: tuple[Policy, ...] = ("islands-barrier", "islands-quorum", "islands-free")
    return RESTARTS + together + (apart if islands > 1 else ())
