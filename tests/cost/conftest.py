"""Jobs and published runs that the cost tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from crore.catalog import load_catalog, read_runs
from crore.cost import (
    Job,
    Layout,
    Memory,
    StepTime,
    fitted_constants,
    machine_of,
    memory,
    operations,
    shape_of,
    stack_of,
    step_time,
)
from crore.plan.published import jobs_of

RUNS = Path(__file__).parents[1] / "published" / "runs.jsonl"


@pytest.fixture(scope="session")
def catalog():
    return load_catalog()


@pytest.fixture(scope="session")
def shapes(catalog):
    """Return the shape of a catalogue model by its name."""
    return lambda name: shape_of(catalog.model(name))


@pytest.fixture(scope="session")
def make_job(catalog):
    """Return a builder of one job: model, software, machine and layout, 4,096-token sequences."""

    def _make(
        model="llama3-8b", *, stack="megatron-2025", gpu="h100-sxm", precision="bf16",
        seq_len=4096.0, global_batch=64.0, mtp=0.0, imbalance=1.0, **layout,
    ):  # fmt: skip
        return Job(
            shape=shape_of(catalog.model(model)), stack=stack_of(stack),
            machine=machine_of(catalog.accelerator(gpu), precision),
            layout=Layout(**{axis: float(degree) for axis, degree in layout.items()}),
            seq_len=seq_len, global_batch=global_batch, mtp=mtp, imbalance=imbalance,
        )  # fmt: skip

    return _make


QWEN = {
    "1.8b": {"layers": 24, "hidden": 2048, "heads": 16, "kv_heads": 16, "ffn": 5504},
    "7b": {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 32, "ffn": 11008},
    "14b": {"layers": 40, "hidden": 5120, "heads": 40, "kv_heads": 40, "ffn": 13696},
    "72b": {"layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 64, "ffn": 24576},
}
"""The first Qwen models: config.json of Qwen/Qwen-1_8B, -7B, -14B and -72B on Hugging Face."""


@pytest.fixture(scope="session")
def qwen(catalog):
    """Return the shape of a first-generation Qwen model: Baichuan's layer with query biases."""
    common = {"head_dim": 128, "vocab": 151936, "qkv_bias": True, "position": "rope"}
    return lambda size: shape_of(replace(catalog.model("baichuan-13b"), **QWEN[size], **common))


@dataclass(frozen=True, kw_only=True)
class Published:
    """The scorable published runs, priced once by the shipped constants."""

    job: Job
    time: StepTime
    memory: Memory
    measured_s: np.ndarray
    family: np.ndarray
    memory_kind: np.ndarray
    memory_bytes: np.ndarray
    """Measured peak; not a number where the source prints none."""
    software: tuple[str, ...]
    year: tuple[int | None, ...]

    @property
    def error(self) -> np.ndarray:
        """Predicted over measured step time, less one."""
        return np.asarray(self.time.step_s / self.measured_s - 1)


@pytest.fixture(scope="session")
def published(catalog):
    runs = [run for run in read_runs(RUNS) if run.scorable]
    job = jobs_of(runs, catalog)
    ops = operations(job)
    return Published(
        job=job, time=step_time(job, fitted_constants(), ops), memory=memory(job, ops),
        measured_s=np.array([run.step_time_s for run in runs], dtype=float),
        family=np.array([run.family for run in runs]),
        memory_kind=np.array([run.memory_kind or "" for run in runs]),
        memory_bytes=np.array([run.memory_bytes_per_gpu or np.nan for run in runs]),
        software=tuple(run.software or "" for run in runs),
        year=tuple(run.year for run in runs),
    )  # fmt: skip
