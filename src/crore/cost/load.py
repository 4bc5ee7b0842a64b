"""How a synchronous load swings, what staggered islands save, and the storage that smooths it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crore.cost.power import MESSAGE_SHARE
from crore.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """The power of a fleet that computes and then only exchanges gradients, in step."""

    swing_w: float
    """Peak to trough with all islands in phase."""
    swing_random_w: float
    """With islands at phases by chance: `swing / √M`, root mean square."""
    swing_staggered_w: float
    """With islands' phases spread evenly over a step."""
    storage_j: float
    """That would smooth it with all islands in phase."""
    storage_staggered_j: float
    """That would smooth what staggering leaves."""
    period_s: float
    """One step."""
    low_share: float
    """Of the step that all wait for messages."""


def load_of(gpus: float, tdp_w: float, islands: int, step_s: float, low_s: float) -> Load:
    """Return the swings of a load that falls to MESSAGE_SHARE of the boards' limit each step.

    A square wave of height `ΔP = N·TDP·(1 - 0.45)` that is low for `low_s` of `step_s`. A buffer
    holds `ΔP·T·d·(1 - d)` (a quarter of `ΔP·T` for halves). M waves of `ΔP/M` at even phases leave
    one of them, M times as fast, low for the fraction of `M·d`: nothing where that is whole. Left
    out: what happens inside a micro-batch, and islands that are not in one interconnection.
    InputError for sizes out of range.
    """
    if not 0 <= low_s <= step_s or not step_s > 0 or islands < 1 or min(gpus, tdp_w) < 0:
        raise InputError(
            f"a load is low for 0 to a whole step and has islands from 1, not {low_s:g} of "
            f"{step_s:g} s and {islands}"
        )
    low = low_s / step_s
    swing = gpus * tdp_w * (1 - MESSAGE_SHARE) if 0 < low < 1 else 0.0
    part = math.fmod(islands * low, 1.0)
    left = swing / islands if WHOLE < part < 1 - WHOLE else 0.0
    return Load(
        swing_w=swing,
        swing_random_w=swing / math.sqrt(islands),
        swing_staggered_w=left,
        storage_j=swing * step_s * low * (1 - low),
        storage_staggered_j=left * step_s / islands * part * (1 - part),
        period_s=step_s,
        low_share=low,
    )


WHOLE = 1e-9


def hourly_kg(
    power_w: float, duration_h: float, kg_per_kwh_by_hour: tuple[float, ...], start_hour: int = 0
) -> float:
    """Return kg CO2 of a constant load by the hour of the day it falls in, 24 intensities given.

    Whole days weigh every hour alike; what is left over counts from `start_hour` on. InputError
    for other than 24 intensities, or one below 0.
    """
    if len(kg_per_kwh_by_hour) != HOURS or min(kg_per_kwh_by_hour) < 0:
        raise InputError(
            f"a day has {HOURS} intensities of 0 kg/kWh or more, not {len(kg_per_kwh_by_hour)}"
        )
    days, rest = divmod(duration_h, HOURS)
    total = days * sum(kg_per_kwh_by_hour)
    hour = start_hour
    while rest > 0:
        total += min(rest, 1.0) * kg_per_kwh_by_hour[hour % HOURS]
        rest, hour = rest - 1.0, hour + 1
    return power_w / 1000 * total


HOURS = 24
