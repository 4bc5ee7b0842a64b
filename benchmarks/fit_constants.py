"""Fit the cost model's constants on published runs, and score them with each family left out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from crore.catalog import load_catalog, read_runs
from crore.cost.constants import Constants, constants_from
from crore.cost.step_time import step_time
from crore.plan.published import jobs_of

START = {
    "gemm_share": (0.93, 0.7, 1.05), "gemm_share_fp8": (0.9, 0.5, 1.2),
    "gemm_share_fp4": (0.8, 0.2, 1.05), "unmeasured_share": (0.78, 0.5, 0.95),
    "ample_power": (0.75, 0.4, 1.3), "grouped_share": (0.8, 0.2, 1.0),
    "expert_launches": (1.5, 0.5, 10.0), "wave_weight": (0.7, 0.05, 1.0),
    "small_tile_share": (0.88, 0.6, 1.0), "tile_prologue_s": (0.6e-6, 0.1e-6, 2e-6),
    "batched_share": (0.5, 0.1, 0.9), "flash2_share": (0.7, 0.3, 1.0),
    "flash2_hopper_share": (0.45, 0.2, 0.9), "flash3_share": (0.75, 0.3, 1.0),
    "flash_backward": (1.2, 0.9, 2.0), "memory_share": (0.8, 0.6, 0.92),
    "traffic": ((1.5, 1.3, 1.8, 1.3), 1.0, 3.0),
    "quantize_traffic": (1.2, 0.7, 5.0),
    "host_launch_s": ((25e-6, 10e-6), 2e-6, 60e-6),
    "host_message_s": (40e-6, 5e-6, 100e-6), "blocking_launch_s": (2e-5, 1e-6, 1.2e-4), "host_step_s": (5e-3, 1e-4, 0.1),
    "domain_share": (0.75, 0.4, 0.95), "nic_share": (0.8, 0.3, 1.0),
    "domain_latency_s": (4e-6, 1e-6, 15e-6), "nic_latency_s": (15e-6, 5e-6, 100e-6),
    "tp_hidden": (0.5, 0.01, 1.0), "ep_hidden": (0.5, 0.01, 1.0),
    "compute_hides": (0.7, 0.05, 1.0), "interference": (0.1, 0.005, 1.0),
    "scan_share": (0.05, 0.003, 0.6),
}  # fmt: skip


def pack(start):
    x, lo, hi, index = [], [], [], []
    for name, (value, low, high) in START.items():
        values = value if isinstance(value, tuple) else (value,)
        index.append((name, len(x), len(values), isinstance(value, tuple)))
        for v in values:
            x.append(np.log(v)); lo.append(np.log(low)); hi.append(np.log(high))
    return np.array(x), np.array(lo), np.array(hi), index


X0, LO, HI, INDEX = pack(START)
PRIOR = 3.0
BIAS = 10.0


def unpack(x) -> Constants:
    e = np.exp(x)
    return Constants(**{n: tuple(e[a:a + k]) if many else float(e[a]) for n, a, k, many in INDEX})


def load(path="tests/published/runs.jsonl"):
    catalog = load_catalog()
    runs = [r for r in read_runs(Path(path)) if r.scorable]
    return runs, jobs_of(runs, catalog)


def family_weights(families):
    names, counts = np.unique(families, return_counts=True)
    size = dict(zip(names, counts))
    return np.array([1 / np.sqrt(max(size[f], 10)) for f in families])


def fit(job, measured, families, x0=X0, keep=None, max_nfev=40):
    w = family_weights(families) if keep is None else family_weights(families) * keep
    masks = [(families == f) & (w > 1e-4) for f in np.unique(families)]
    masks = [m for m in masks if m.sum() >= 10]
    def residual(x):
        t = step_time(job, unpack(x)).step_s
        r = np.log(t / measured) * 10
        prior = PRIOR * (x - X0)
        bias = [BIAS * np.mean(np.clip(r[m], -1.5, 1.5)) for m in masks]
        return np.concatenate([np.sqrt(2 * (np.sqrt(1 + r * r) - 1)) * np.sign(r) * w * 10, prior, bias])
    out = least_squares(residual, x0, bounds=(LO, HI), max_nfev=max_nfev, x_scale=0.3, diff_step=1e-3)
    return out.x


def table(err, families):
    for f in dict.fromkeys(families):
        e = err[families == f]
        print(f"{f:16s} n={len(e):4d} med|e|={np.median(abs(e))*100:6.1f} p90={np.quantile(abs(e),.9)*100:6.1f} bias(med)={np.median(e)*100:+6.1f} mean={np.mean(e)*100:+6.1f} w10={np.mean(abs(e)<.1)*100:4.0f}")
    names = [f for f in dict.fromkeys(families) if (families == f).sum() >= 10]
    meds = [np.median(abs(err[families == f])) for f in names]
    print(f"mean of medians {np.mean(meds)*100:.2f} worst {np.max(meds)*100:.1f} p90 all {np.quantile(abs(err),.9)*100:.1f}")
