"""How far to trust a step time: its 80 % interval and what kind of evidence stands behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import numpy as np

from crore.cost.arrays import Num
from crore.cost.constants import fitted_rows
from crore.cost.job import Job
from crore.cost.step_time import StepTime

Evidence: TypeAlias = Literal["measured", "fitted", "published", "extrapolated"]
"""measured here; from constants fitted on runs like it; printed by a source; beyond the fit."""
SCALE_WIDTH_PER_DECADE: Final = 0.10
"""Log width added per factor of ten beyond the largest calibrated run (judgement, not fitted)."""
UNSEEN_PART_WIDTH: Final = 0.15
"""Log width added for an accelerator no calibration run used (judgement; left-out families of one
part miss by about this much)."""


MEASURED_WIDTH: Final = 0.15
"""Half the log width on a machine that was measured (benchmarks/prediction.py; on a machine that
does nothing else)."""


def fitted_widths() -> dict[str, float]:
    """Return the shipped interval widths."""
    return {name: float(row["value"]) for name, row in fitted_rows()["widths"].items()}


def half_width(job: Job, time: StepTime, widths: Mapping[str, float]) -> Num:
    """Return half the width of the 80 % interval of ln(step time), within the calibrated range.

    Independent contributions add in squares: any run, expert layers, time spent waiting for the
    host, and launches that block.
    """
    host = time.parts["host"] / time.step_s
    experts = np.greater(job.shape.experts, 0)
    return np.sqrt(
        widths["base_width"] ** 2
        + (widths["expert_width"] * experts) ** 2
        + (widths["host_width"] * host) ** 2
        + (widths["blocking_width"] * job.stack.launch_blocking) ** 2
    )


def decades_beyond(gpus: Num) -> Num:
    """Return factors of ten between the largest calibrated run and `gpus`, at least 0."""
    largest = float(fitted_rows()["calibration"]["largest_gpus"])
    return np.log10(np.maximum(gpus / largest, 1.0))


def calibrated_part(name: str) -> bool:
    """True when calibration runs used this accelerator."""
    return name in fitted_rows()["calibration"]["accelerators"]


def evidence_of(
    accelerator: str, gpus: float, precision: str, schedule: str, seq_len: float
) -> Evidence:
    """Return the tag of a step time: fitted inside the calibrated range, else extrapolated.

    The range is what calibration runs used: parts, GPU counts, formats, schedules, sequences.
    """
    seen = fitted_rows()["calibration"]
    inside = (
        calibrated_part(accelerator)
        and float(decades_beyond(gpus)) == 0.0
        and precision in seen["precisions"]
        and schedule in seen["schedules"]
        and seen["sequences"][0] <= seq_len <= seen["sequences"][1]
    )
    return "fitted" if inside else "extrapolated"


def interval(
    job: Job,
    time: StepTime,
    seen_part: bool | Num = True,
    widths: Mapping[str, float] | None = None,
) -> tuple[Num, Num]:
    """Return (low, high) seconds of the 80 % interval, wider beyond the calibrated range."""
    inside = half_width(job, time, fitted_widths() if widths is None else widths)
    if job.machine.measured is not None:
        return time.step_s * np.exp(-MEASURED_WIDTH), time.step_s * np.exp(MEASURED_WIDTH)
    scale = SCALE_WIDTH_PER_DECADE * decades_beyond(job.layout.gpus)
    part = UNSEEN_PART_WIDTH * (1.0 - np.asarray(seen_part, dtype=float))
    width = np.sqrt(inside**2 + scale**2 + part**2)
    return time.step_s * np.exp(-width), time.step_s * np.exp(width)
