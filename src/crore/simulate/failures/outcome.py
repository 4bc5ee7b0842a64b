"""Where the time of a fleet goes: what closed forms and draws both return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crore.cost.arrays import Num

CAUSES: Final = (
    "checkpoint", "lost work", "restart", "stall", "silent corruption", "stragglers",
    "maintenance", "site outage", "barrier", "absent worlds", "no spare",
)  # fmt: skip
"""Checkpoint: writing. Lost work: done since the last one. Restart: until work goes on, waiting for
a machine included. Stall: of a group that goes on. Barrier: waiting for other islands. Absent
worlds: of a group that goes on without them. No spare: machines in repair beyond the spares."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Shares of the fleet's time; with goodput they sum to one. Floats, or `[D]` draws."""

    goodput: Num
    """Share of the time of all GPUs at work that becomes progress."""
    losses: Mapping[str, Num]
    """Cause -> share, every one of `CAUSES`."""


def outcome(useful_s: Num, lost_s: Mapping[str, Num], there: Mapping[str, Num]) -> Outcome:
    """Return the shares of a run that takes `useful_s` of work and `lost_s` by cause.

    `there` is cause -> share of the fleet present whatever else goes on: absences are independent
    of the clock, so one after the other takes its part of what the earlier left.
    """
    total = useful_s + sum(lost_s.values())
    shares: dict[str, Num] = {cause: lost_s.get(cause, 0.0) / total for cause in CAUSES}
    left = useful_s / total
    for cause, share in there.items():
        shares[cause] = shares[cause] + left * (1 - share)
        left = left * share
    return Outcome(goodput=left, losses=shares)
