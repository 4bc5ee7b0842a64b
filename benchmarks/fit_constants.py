"""Fit the cost model's constants on published runs; score each family with its own rows left out.

    python benchmarks/fit_constants.py            fit, leave families out, write both data files
    python benchmarks/fit_constants.py --check    fit again and compare with the shipped constants

Needs scipy (the `dev` extra). Writes src/crore/catalog/data/fitted.toml and
benchmarks/left_out.json. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from crore.catalog import PublishedRun, load_catalog, read_runs
from crore.cost.constants import Constants, count_fitted
from crore.cost.evidence import half_width
from crore.cost.job import Job
from crore.cost.step_time import step_time
from crore.plan.published import jobs_of

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "tests/published/runs.jsonl"
FITTED = ROOT / "src/crore/catalog/data/fitted.toml"
LEFT_OUT = ROOT / "benchmarks/left_out.json"
Floats = NDArray[np.float64]

# name: (prior value, lowest, highest, unit, where the prior comes from). A tuple of values is one
# per stack: megatron-2021, megatron-2025, fsdp, xla (the last stands for all that follow).
DATASHEET = "NVIDIA and stas00 tables"
ENGINEERING = "engineering estimate"
PRIORS: dict[str, tuple[Any, float, float, str, str]] = {
    "gemm_share": (0.93, 0.7, 1.05, "share", "training products against the best of a sweep"),
    "gemm_share_fp8": (0.9, 0.5, 1.2, "share", ENGINEERING),
    "gemm_share_fp4": (0.8, 0.2, 1.05, "share", ENGINEERING),
    "unmeasured_share": (0.78, 0.5, 0.95, "share", "mean of the measured parts, " + DATASHEET),
    "ample_power": (0.75, 0.4, 1.3, "W per TFLOP/s", "H100 at 700 W throttles little"),
    "grouped_share": (0.8, 0.2, 1.0, "share", ENGINEERING),
    "expert_launches": (1.5, 0.5, 10.0, "ratio", ENGINEERING),
    "wave_weight": (0.7, 0.05, 1.0, "share", "libraries choose tiles that avoid some of the tail"),
    "small_tile_share": (0.88, 0.6, 1.0, "share", "CUTLASS tile sweeps, recalled"),
    "tile_prologue_s": (0.6e-6, 0.1e-6, 2e-6, "s", "two memory latencies"),
    "batched_share": (0.5, 0.1, 0.9, "share", ENGINEERING),
    "flash2_share": (0.7, 0.3, 1.0, "share", "arXiv 2307.08691 Fig. 5"),
    "flash2_hopper_share": (0.45, 0.2, 0.9, "share", "arXiv 2407.08608: 35 % of peak"),
    "flash3_share": (0.75, 0.3, 1.0, "share", "arXiv 2407.08608: 75 % of peak, short run"),
    "flash_backward": (1.2, 0.9, 2.0, "ratio", "arXiv 2307.08691 Fig. 6"),
    "memory_share": (0.8, 0.6, 0.92, "share", "stream benchmarks"),
    "traffic": ((1.5, 1.3, 1.8, 1.3), 1.0, 3.0, "ratio", ENGINEERING),
    "quantize_traffic": (1.2, 0.7, 5.0, "ratio", ENGINEERING),
    "host_launch_s": ((25e-6, 10e-6), 2e-6, 50e-6, "s", "eager PyTorch and Megatron profiles"),
    "host_message_s": (40e-6, 5e-6, 100e-6, "s", ENGINEERING),
    "blocking_launch_s": (20e-6, 1e-6, 250e-6, "s", "a stream synchronisation"),
    "host_step_s": (5e-3, 1e-4, 0.1, "s", ENGINEERING),
    "domain_share": (0.75, 0.4, 0.95, "share", "nccl-tests, stas00 tables"),
    "nic_share": (0.8, 0.3, 1.0, "share", "nccl-tests, stas00 tables"),
    "domain_latency_s": (4e-6, 1e-6, 15e-6, "s", "NVIDIA/nccl tuning.cc"),
    "nic_latency_s": (15e-6, 5e-6, 100e-6, "s", "NVIDIA/nccl tuning.cc"),
    "tp_hidden": (0.5, 0.01, 1.0, "share", ENGINEERING),
    "ep_hidden": (0.5, 0.01, 1.0, "share", ENGINEERING),
    "compute_hides": (0.7, 0.05, 1.0, "share", ENGINEERING),
    "interference": (0.1, 0.005, 1.0, "ratio", "communication kernels take 2-15 % of the SMs"),
    "scan_share": (0.05, 0.003, 0.6, "share", ENGINEERING),
}
# Widths of the 80 % interval, set on the errors of left-out families (log units).
WIDTHS = {
    "base_width": (0.13, "any run"),
    "expert_width": (0.3, "mixture-of-experts models: releases differ by up to two"),
    "host_width": (0.6, "times the share of the step that waits for the host"),
    "blocking_width": (0.16, "launches that block: a setting one data set has"),
}
PRIOR_WEIGHT = 3.0
BIAS_WEIGHT = 30.0
SMALL_FAMILY = 10
ERROR_SCALE = 0.1
"""Relative error at which the loss turns from quadratic to absolute."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The runs as one job, their measured times and families."""

    job: Job
    measured_s: Floats
    families: NDArray[np.str_]


def load_problem(path: Path = RUNS) -> tuple[list[PublishedRun], Problem]:
    """Read the scorable runs of a file."""
    runs = [run for run in read_runs(path) if run.scorable]
    measured = np.array([run.step_time_s for run in runs], dtype=float)
    families = np.array([run.family for run in runs])
    job = jobs_of(runs, load_catalog())
    return runs, Problem(job=job, measured_s=measured, families=families)


def _vectors() -> tuple[Floats, Floats, Floats]:
    """Prior, lowest and highest values as log vectors, in the order of PRIORS."""
    rows = [
        (v if isinstance(v, tuple) else (v,), low, high) for v, low, high, *_ in PRIORS.values()
    ]
    flat = [(value, low, high) for values, low, high in rows for value in values]
    table = np.log(np.array(flat))
    return table[:, 0], table[:, 1], table[:, 2]


def constants_of(x: Floats) -> Constants:
    """Turn a log vector into the record."""
    values, at = {}, 0
    for name, (prior, *_) in PRIORS.items():
        size = len(prior) if isinstance(prior, tuple) else 1
        chunk = tuple(float(v) for v in np.exp(x[at : at + size]))
        values[name] = chunk if isinstance(prior, tuple) else chunk[0]
        at += size
    return Constants(**values)  # type: ignore[arg-type]


def fit(problem: Problem, left_out: str = "") -> Floats:
    """Return the log vector that minimises the loss, with one family left out.

    Loss: pseudo-Huber of the log error, every family weighing the same (at least SMALL_FAMILY
    rows), a pull of each family's median error to zero, and a pull of each constant to its prior.
    """
    prior, low, high = _vectors()
    families = problem.families
    names, counts = np.unique(families, return_counts=True)
    size = dict(zip(names, counts, strict=True))
    weight = np.array([10 / np.sqrt(max(size[f], SMALL_FAMILY)) for f in families])
    weight = weight * (families != left_out)
    masks = [families == f for f in names if f != left_out and size[f] >= SMALL_FAMILY]

    def residual(x: Floats) -> Floats:
        error = np.log(step_time(problem.job, constants_of(x)).step_s / problem.measured_s)
        scaled = error / ERROR_SCALE
        robust = np.sqrt(2 * (np.sqrt(1 + scaled**2) - 1)) * np.sign(scaled) * weight
        bias = [BIAS_WEIGHT * np.mean(np.tanh(2 * scaled[mask])) for mask in masks]
        return np.concatenate([robust, PRIOR_WEIGHT * (x - prior), bias])

    start = np.clip(prior, low + 1e-3, high - 1e-3)
    result = least_squares(
        residual, start, bounds=(low, high), max_nfev=80, x_scale=0.3, diff_step=1e-3
    )
    return np.asarray(result.x)


def _fit_without(arguments: tuple[Problem, str]) -> tuple[str, Floats]:
    problem, family = arguments
    return family, fit(problem, family)


def fit_all(problem: Problem) -> dict[str, Floats]:
    """Fit on everything (key "") and without each family of SMALL_FAMILY rows or more."""
    names, counts = np.unique(problem.families, return_counts=True)
    left_out = ["", *[str(n) for n, c in zip(names, counts, strict=True) if c >= SMALL_FAMILY]]
    with Pool(2) as pool:
        return dict(pool.imap_unordered(_fit_without, [(problem, name) for name in left_out]))


def left_out_scores(problem: Problem, fits: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """Score each left-out family by the constants fitted without it."""
    scores = {}
    for family, x in fits.items():
        if not family:
            continue
        mask = problem.families == family
        time = step_time(problem.job, constants_of(x))
        error = (time.step_s / problem.measured_s - 1)[mask]
        width = np.broadcast_to(
            half_width(problem.job, time, {k: v[0] for k, v in WIDTHS.items()}), mask.shape
        )[mask]
        inside = np.abs(np.log1p(error)) <= width
        scores[family] = {
            "runs": int(mask.sum()),
            "median_abs_error": float(np.median(np.abs(error))),
            "p90_abs_error": float(np.quantile(np.abs(error), 0.9)),
            "bias": float(np.median(error)),
            "within_10_percent": float(np.mean(np.abs(error) <= 0.1)),
            "coverage": float(np.mean(inside)),
            "half_width": float(np.median(np.sinh(width))),
        }
    return scores


def write_fitted(problem: Problem, runs: Sequence[PublishedRun], x: Floats) -> None:
    """Write the data file that the package ships."""
    constants = constants_of(x)
    lines = [
        "# Fitted constants of the cost model. Written by benchmarks/fit_constants.py: do not edit",
        "",
        "[calibration]",
        f'fitted_on = "step times of {len(runs)} published runs, tests/published/runs.jsonl"',
        'command = "python benchmarks/fit_constants.py"',
        f"runs = {len(runs)}",
        f"largest_gpus = {max(run.gpus for run in runs)}",
        f"accelerators = {_words(run.gpu for run in runs)}",
        f"families = {_words(problem.families)}",
        f"precisions = {_words(run.precision for run in runs)}",
        'schedules = ["1f1b", "interleaved"]',
        f"sequences = {_range(run.seq_len or 0 for run in runs)}",
        "",
    ]
    for name, (prior, low, high, unit, source) in PRIORS.items():
        value = getattr(constants, name)
        lines += [
            f"[constants.{name}]",
            f"value = {_number(value)}",
            f"prior = {_number(prior)}",
            f"bounds = [{low:g}, {high:g}]",
            f'unit = "{unit}"',
            f'prior_source = "{source}"',
            "",
        ]
    for name, (value, what) in WIDTHS.items():
        lines += [f"[widths.{name}]", f"value = {value}", f'what = "{what}"', ""]
    FITTED.write_text("\n".join(lines), encoding="utf-8")


def _words(values: Iterable[str]) -> str:
    return json.dumps(sorted({str(value) for value in values}))


def _range(values: Iterable[int]) -> str:
    every = sorted(values)
    return f"[{every[0]}, {every[-1]}]"


def _number(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{v:.5g}" for v in value) + "]"
    return f"{value:.5g}"


def main() -> None:
    """Fit, score and write; or only check that a fresh fit agrees with what is shipped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    runs, problem = load_problem()
    if check:
        from crore.cost.constants import fitted_constants

        fresh = step_time(problem.job, constants_of(fit(problem))).step_s
        shipped = step_time(problem.job, fitted_constants()).step_s
        print(f"largest difference in step time: {np.max(np.abs(fresh / shipped - 1)):.2%}")
        return
    fits = fit_all(problem)
    scores = left_out_scores(problem, fits)
    write_fitted(problem, runs, fits[""])
    LEFT_OUT.write_text(json.dumps(scores, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for family, score in scores.items():
        print(family, {key: round(value, 3) for key, value in score.items()})
    medians = [score["median_abs_error"] for score in scores.values()]
    fitted = count_fitted(constants_of(fits[""]))
    print(
        f"left out: mean of medians {np.mean(medians):.1%}; "
        f"{fitted} constants, {len(WIDTHS)} widths"
    )


if __name__ == "__main__":
    main()
