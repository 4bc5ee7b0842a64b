"""The peak of a load that swings with its steps, beside its average."""

from __future__ import annotations

from typing import Final

from crore.cost.power import MESSAGE_SHARE
from crore.io import Record
from crore.plan.text.takes import SWING_W
from crore.units import format_duration, format_watts

OUTSIDE: Final = ("servers", "network", "desktop")
"""Parts of the power that stand around the boards."""


def peak_w(plan: Record | None) -> float | None:
    """Return watts at the meter while all GPUs compute; None for a load that does not swing.

    Boards at their limit, as `crore.cost.load` has them, beside servers, network and cooling, over
    what all draw on average, at likely values; times the median average, which it stands beside.
    """
    if plan is None or not plan["load"] or not plan["load"]["swing_w"]:
        return None
    split = plan["power_split_w"]
    boards = plan["load"]["swing_w"] / (1 - MESSAGE_SHARE)
    around = sum(split.get(name, 0.0) for name in OUTSIDE)
    # Cooling takes the same share of both.
    ratio = (boards + around) / (sum(split.values()) - split.get("cooling", 0.0))
    return float(plan["power_w"]["p50"] * ratio)


def swings(plan: Record) -> str:
    """Return how a load in step swings, as a sentence has it; empty where it hardly does."""
    load, peak = plan["load"], peak_w(plan)
    if peak is None or load["swing_w"] < SWING_W:
        return ""
    left = load["swing_staggered_w"]
    staggered = f", {format_watts(left)} with islands' steps staggered"
    return (
        f"{format_watts(peak)} at its peak, while all compute, as it swings by "
        f"{format_watts(load['swing_w'])} every {format_duration(load['period_s'])}"
        f"{staggered if plan['islands'] > 1 else ''}"
    )
