"""A run filled from the catalogue: hazards by cause, times of recovery, enough spares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Final, TypeVar

import numpy as np

from crore.catalog.reliability import load_reliability
from crore.simulate.failures.params import (
    Checkpoint,
    Hazard,
    Planned,
    Run,
    Silent,
    Sites,
    Spares,
    Straggling,
)
from crore.simulate.failures.rates import in_repair, poisson

Record = TypeVar("Record")
SPARES_COVER: Final = (3.0, 0.999)
"""Spares are enough for three times the hazard in 999 of 1,000 hours."""


def catalogue_run(
    *, gpus: float, world_gpus: float, islands: int, step_s: float, round_s: float
) -> Run:
    """Return a run with the hazards and times of `catalog/data/reliability.toml`.

    Spares are those of `spares_share`. Change what a case is about with `dataclasses.replace`.
    InputError for sizes out of range.
    """
    rows = load_reliability()
    value = {name: figure.value for name, figure in rows.figures.items()} | {"spares_share": 0.0}
    run = Run(
        gpus=gpus, world_gpus=world_gpus, islands=islands, step_s=step_s, round_s=round_s,
        hazards=tuple(
            Hazard(
                name=cause.name, domain=cause.domain, domain_gpus=rows.domain_gpus[cause.domain],
                per_gpu_s=cause.per_gpu_s, permanent=cause.permanent,
            )
            for cause in rows.causes
        ),
        silent=_from(Silent, value, "silent"), straggling=_from(Straggling, value, "straggling"),
        planned=_from(Planned, value, "planned"), spares=_from(Spares, value, "spares"),
        sites=_from(Sites, value, "sites"), disk=_from(Checkpoint, value, "disk"),
        peer=_from(Checkpoint, value, "peer"), hot=_from(Checkpoint, value, "hot"),
        **{k: value[k] for k in ("storage_every_s", "stall_s", "rebuild_s", "absent_s")},
    )  # fmt: skip
    share = spares_share(run, *SPARES_COVER)
    return replace(run, spares=replace(run.spares, share=share))


def spares_share(run: Run, hazard: float, cover: float) -> float:
    """Return the GPUs to keep in store over those at work, so that broken machines are covered.

    The smallest number of machines that those in repair at one island stay within for a share
    `cover` of the time (Poisson, as repairs are independent).
    """
    broken, chance = poisson(in_repair(replace(run, hazard=hazard)))
    machines = broken[np.searchsorted(np.cumsum(chance), cover)]
    return float(machines) * run.spares.drain_gpus * run.islands / run.gpus


def _from(kind: type[Record], value: Mapping[str, float], prefix: str) -> Record:
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: value[f"{prefix}_{name}"] for name in names})
