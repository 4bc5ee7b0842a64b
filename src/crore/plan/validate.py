"""Hold predictions against measured runs: layout fixed as printed, errors by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crore.catalog import Catalog, PublishedRun
from crore.cost import (
    Job,
    fitted_constants,
    interval,
    memory,
    operations,
    parameters,
    step_time,
)
from crore.cost.evidence import calibrated_part
from crore.cost.memory import FRAGMENTATION, Memory
from crore.errors import InputError
from crore.plan.published import NEEDED, join_jobs, named_job, predictable

Floats = NDArray[np.float64]
VALIDATION_VERSION: Final = 1
"""Of crore.validate, the document of `crore validate`."""
SIZES = ((1e9, "under 1B"), (10e9, "1-10B"), (100e9, "10-100B"), (np.inf, "over 100B"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Errors of one group, as shares: predicted / measured - 1."""

    group: str
    runs: int
    median_abs_error: float
    p90_abs_error: float
    bias: float
    """Median signed error."""
    mean_error: float
    within_10_percent: float
    coverage: float
    """Share of runs inside their 80 % interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Predictions of every run and scores of the measured ones."""

    predictions: list[dict[str, Any]]
    scores: dict[str, list[Score]]
    """Grouping -> its groups: family, GPU, size, kind."""
    memory: Score | None
    ran_and_fit: float | None
    """Share of measured runs predicted to fit; None when no run is measured."""
    measured: int
    skipped: list[str]
    """Runs that do not say what a step computes: id and what it lacks."""


def predicted_memory(held: Memory, kinds: Sequence[str | None]) -> Floats:
    """Return bytes as each source counts them: allocated, reserved by the allocator, or device."""
    allocated = np.broadcast_to(held.allocated_bytes, len(kinds))
    device = np.broadcast_to(held.peak_bytes, len(kinds))
    reserved = allocated * (1 + FRAGMENTATION)
    choose = {"allocated": allocated, "reserved": reserved}
    return np.array([choose.get(kind or "", device)[row] for row, kind in enumerate(kinds)])


def validate_runs(runs: Sequence[PublishedRun], catalog: Catalog) -> Validation:
    """Predict every run that states its step and score those that are scorable and measured.

    A run that cannot be predicted (no step stated, a name the catalogue does not hold, a format the
    part lacks) is listed with the reason and does not stop the others. Raises InputError when none
    is left.
    """
    usable: list[PublishedRun] = []
    jobs: list[Job] = []
    skipped: list[str] = []
    refusal: InputError | None = None
    for run in runs:
        if not predictable(run):
            skipped.append(f"{run.id} lacks {', '.join(_lacks(run))}")
            continue
        try:
            jobs.append(named_job(run, catalog))
            usable.append(run)
        except InputError as error:
            skipped.append(str(error))
            refusal = refusal or error
    if refusal and not usable:
        raise refusal
    if not usable:
        which = f"run {skipped[0][:120]}" if skipped else "the file holds no run"
        more = f", {len(skipped) - 1} more like it" if len(skipped) > 1 else ""
        raise InputError(f"nothing to predict: {which}{more} (needed: {', '.join(NEEDED)})")
    return _score_all(usable, skipped, join_jobs(usable, jobs), _seen(usable, catalog))


def _lacks(run: PublishedRun) -> list[str]:
    return [name for name in NEEDED if getattr(run, name) is None]


def _seen(runs: Sequence[PublishedRun], catalog: Catalog) -> NDArray[np.bool_]:
    return np.array([calibrated_part(catalog.accelerator(run.gpu).name) for run in runs])


def _score_all(
    runs: Sequence[PublishedRun], skipped: list[str], job: Job, seen: NDArray[np.bool_]
) -> Validation:
    count = len(runs)
    ops = operations(job)
    time, held = step_time(job, fitted_constants(), ops), memory(job, ops)
    low, high = (np.broadcast_to(side, count) for side in interval(job, time, seen))
    step_s = np.broadcast_to(time.step_s, count)
    bytes_per_gpu = predicted_memory(held, [run.memory_kind for run in runs])
    fits = np.broadcast_to(np.asarray(held.fits, dtype=bool), count)
    rows = zip(runs, step_s, low, high, bytes_per_gpu, fits, strict=True)
    predictions = [
        {
            "id": run.id, "step_time_s": float(t), "step_time_low_s": float(lo),
            "step_time_high_s": float(hi), "memory_bytes_per_gpu": float(m), "fits": bool(f),
        }
        for run, t, lo, hi, m, f in rows
    ]  # fmt: skip
    scored = np.array([run.scorable is not False and bool(run.step_time_s) for run in runs])
    measured = np.array([run.step_time_s or np.nan for run in runs])
    error = np.where(scored, step_s / measured - 1, np.nan)
    inside = (measured >= low) & (measured <= high)
    return Validation(
        predictions=predictions,
        scores={
            name: _by_group(labels, error, inside, scored)
            for name, labels in _groups(runs, job).items()
        },
        memory=_memory_score(runs, bytes_per_gpu),
        ran_and_fit=float(np.mean(fits[scored])) if scored.any() else None,
        measured=int(scored.sum()),
        skipped=skipped,
    )


def _groups(runs: Sequence[PublishedRun], job: Job) -> Mapping[str, list[str]]:
    """Return the label of every run under each grouping."""
    sizes = np.broadcast_to(parameters(job.shape), len(runs))
    experts = np.broadcast_to(job.shape.experts, len(runs))
    return {
        "family": [run.family or "none" for run in runs],
        "GPU": [run.gpu for run in runs],
        "size": [_size(float(size)) for size in sizes],
        "kind": ["mixture of experts" if e else "dense" for e in experts],
    }


def _size(count: float) -> str:
    return next(name for limit, name in SIZES if count < limit)


def _by_group(
    labels: Sequence[str], error: Floats, inside: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> list[Score]:
    names = np.array(labels)
    present = [str(n) for n in dict.fromkeys(labels) if (scored & (names == n)).any()]
    rows = [_score(n, error[scored & (names == n)], inside[scored & (names == n)]) for n in present]
    every = [_score("all", error[scored], inside[scored])] if scored.any() else []
    return sorted(rows, key=lambda row: -row.runs) + every


def _score(group: str, error: Floats, inside: NDArray[np.bool_]) -> Score:
    return Score(
        group=group, runs=len(error), median_abs_error=float(np.median(np.abs(error))),
        p90_abs_error=float(np.quantile(np.abs(error), 0.9)), bias=float(np.median(error)),
        mean_error=float(np.mean(error)), within_10_percent=float(np.mean(np.abs(error) <= 0.1)),
        coverage=float(np.mean(inside)),
    )  # fmt: skip


def _memory_score(runs: Sequence[PublishedRun], predicted: Floats) -> Score | None:
    measured = np.array([run.memory_bytes_per_gpu or np.nan for run in runs])
    known = np.isfinite(measured) & np.array([run.scorable is not False for run in runs])
    if not known.any():
        return None
    error = (predicted / measured - 1)[known]
    return _score("memory", error, np.ones(len(error), dtype=bool))


def validation_record(made: Validation) -> dict[str, Any]:
    """Return the validation as the JSON file's body, predictions left to their own file."""
    return {
        "measured": made.measured,
        "skipped": made.skipped,
        "ran_and_fit": made.ran_and_fit,
        "scores": {name: [asdict(s) for s in rows] for name, rows in made.scores.items()},
        "memory": asdict(made.memory) if made.memory else None,
    }
