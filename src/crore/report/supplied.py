"""Deliveries and power over the years: when a fleet of each size is there."""

from __future__ import annotations

from typing import Final

import numpy as np

from crore.catalog.supply import scenario
from crore.cost.sampling import DRAWS, percentiles
from crore.cost.scenario import Course, ramp_of, sampled
from crore.cost.supply import fleet_units
from crore.io import Record
from crore.report.marks import table
from crore.units import format_count

YEARS: Final = 15
PER_YEAR: Final = 4
SEED: Final = 0


def supply_of(name: str, gpu: str) -> Record:
    """Return the fleet of one buyer under a supply scenario: `curve` of [year, p10, p50, p90].

    The same draws as `ready_year` of a plan; losses and retirement included.
    """
    it = scenario(name)
    ramp = ramp_of(Course(scenario=it, own={}), sampled(DRAWS, SEED))
    years = np.arange(YEARS * PER_YEAR + 1) / PER_YEAR
    curve = []
    for year in years:
        units = np.broadcast_to(np.asarray(fleet_units(ramp, float(year))), (DRAWS,))
        curve.append([it.begin + float(year), *(float(f"{x:.4g}") for x in percentiles(units))])
    rows = [[f"{row[0]:.0f}", *(format_count(x) for x in row[1:])] for row in curve[::PER_YEAR]]
    return {
        "title": f"GPUs one buyer has, supply as {name}",
        "source": it.provenance.source,
        "about": f"{it.title}; units of {gpu} or what stands in its place",
        "curve": curve,
        "table": table("GPUs of one buyer at the beginning of a year",
                       ["year", "p10", "p50", "p90"], rows),
    }  # fmt: skip
