"""What whole steps take beyond the sum of their parts, each of which was measured alone.

Allocator, caches, graph, FSDP's bookkeeping and waiting for the other process have no table of
their own. They are found on reference models, small ones that nobody would train, and stored as two
numbers: all parts take `step_factor` times as long, and each message of FSDP `shard_s` longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crore.catalog import load_catalog
from crore.catalog.accelerators import calibrated
from crore.catalog.calibration import Calibration, Setting
from crore.catalog.types import ModelSpec
from crore.cost import Job, Layout, fitted_constants, machine_of, shape_of, stack_of, step_time

SEQ_LEN: Final = 256
MICRO_BATCH: Final = 4
MICRO_BATCHES: Final = 1
"""Of each process and step."""
REFERENCES: Final[tuple[dict[str, Any], ...]] = (
    {"layers": 3, "hidden": 160, "heads": 5, "kv_heads": 5, "head_dim": 32, "ffn": 448},
    {"layers": 3, "hidden": 320, "heads": 5, "kv_heads": 5, "head_dim": 64, "ffn": 832},
)
"""One of whose step messages and the host are a large part, one that is arithmetic."""
_TRIAL_S: Final = 1e-3
"""Any time of a message that tells how many there are."""


class Step(NamedTuple):
    """One reference's step: as the tables have it, and as it was."""

    parts_s: float
    """Sum of its parts, what FSDP adds to messages left out."""
    messages: float
    """FSDP's."""
    taken_s: float


def references() -> list[ModelSpec]:
    """Return the models, in the architecture of the catalogue's models for a CPU."""
    base = load_catalog().model("nano-1m")
    return [replace(base, name="reference", **changed) for changed in REFERENCES]


def zero_stages(processes: int) -> dict[str, int]:
    """Return the ZeRO stages that make a difference to so many processes, by name."""
    return {"zero1": 1, "zero3": 3} if processes > 1 else {"zero1": 1}


def with_remainder(
    found: Calibration, setting: Setting, taken: Mapping[str, tuple[float, ...]]
) -> Setting:
    """Return a setting that also explains the steps taken, by ZeRO stage and reference."""
    stages = zero_stages(setting.processes)
    steps = [
        Step(*planned(found, setting, spec, stages[name]), seconds)
        for name, each in taken.items()
        for spec, seconds in zip(references(), each, strict=True)
    ]
    factor, shard_s = solved(steps, setting.shard_s)
    return replace(setting, step_factor=factor, shard_s=shard_s)


def planned(
    found: Calibration, setting: Setting, spec: ModelSpec, zero: int
) -> tuple[float, float]:
    """Return seconds of a step's parts by the tables of a setting, and its messages of FSDP."""
    bare, sent = (
        _step_s(found, replace(setting, step_factor=1.0, shard_s=shard_s), spec, zero)
        for shard_s in (0.0, _TRIAL_S)
    )
    return bare, (sent - bare) / _TRIAL_S


def _step_s(found: Calibration, setting: Setting, spec: ModelSpec, zero: int) -> float:
    row = load_catalog().accelerator("cpu-2core")
    part = calibrated(row, replace(found, settings=(setting,)), setting.processes)
    count = float(setting.processes)
    job = Job(
        shape=shape_of(spec), stack=stack_of("crore"), machine=machine_of(part, "fp32"),
        layout=Layout(dp_shard=count, micro_batch=float(MICRO_BATCH), zero=float(zero)),
        seq_len=float(SEQ_LEN), global_batch=count * MICRO_BATCH * MICRO_BATCHES,
    )  # fmt: skip
    return float(step_time(job, fitted_constants()).step_s)


def solved(steps: list[Step], least_shard_s: float) -> tuple[float, float]:
    """Return (step factor, host seconds of a message) that miss the steps by the least share.

    `factor·(parts + messages·shard) = taken`, least squares of the relative misses. Neither is less
    than what was measured of the parts alone: 1, and `least_shard_s`.
    """
    parts = np.array([it.parts_s / it.taken_s for it in steps])
    sent = np.array([it.messages / it.taken_s for it in steps])
    if sent.any():
        columns = np.stack([parts, sent], axis=1)
        factor, each = np.linalg.lstsq(columns, np.ones(len(steps)), rcond=None)[0]
        if factor >= 1 and each >= factor * least_shard_s:
            return float(factor), float(each / factor)
    edges = [(1.0, max(_share(sent, 1 - parts), least_shard_s))] if sent.any() else []
    whole = parts + sent * least_shard_s
    edges.append((max(_share(whole, np.ones(len(steps))), 1.0), least_shard_s))
    return min(edges, key=lambda it: float(np.sum((it[0] * (parts + sent * it[1]) - 1) ** 2)))


def _share(column: NDArray[np.float64], of: NDArray[np.float64]) -> float:
    """Return how much of a column explains another best, by least squares."""
    return float(column @ of / (column @ column))
