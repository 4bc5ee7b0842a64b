"""The fitted constants: one record, one data file, each with what it was fitted on.

No constant is keyed on a family of runs, a source or a model. Those that differ by software are
listed by stack, in the order of `stack.FITTED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crore.catalog.load import DATA
from crore.cost.arrays import Num
from crore.cost.stack import FITTED
from crore.io import read_toml


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants:
    """Shares are of a catalogue figure; every value is a float, or one float per stack."""

    gemm_share: float
    """Of the measured 16-bit matmul rate, what training products sustain."""
    gemm_share_fp8: float
    gemm_share_fp4: float
    unmeasured_share: float
    """Of the peak, the matmul rate of a part nobody has measured."""
    ample_power: float
    """W per dense 16-bit TFLOP/s from which a part holds its short-run rate; below, the rate falls
    with the square root (frequency against power between P and P^(1/3))."""
    grouped_share: float
    """Of the product rate, what products of many experts sustain."""
    expert_launches: float
    """Host launches of an expert layer over those listed."""
    wave_weight: float
    """How much of the last, partly filled wave of tiles is paid (0 none, 1 all)."""
    small_tile_share: float
    """Of a 256 x 128 tile's rate, what a 128 x 64 tile sustains."""
    tile_prologue_s: float
    """Start-up of one tile."""
    batched_share: float
    """Of the product rate, what batched attention products sustain."""
    flash2_share: float
    """Of the matmul rate, FlashAttention-2 forward before Hopper."""
    flash2_hopper_share: float
    flash3_share: float
    """Of the matmul rate, kernels written for Hopper and later."""
    flash_backward: float
    """Slow-down of the backward kernel at equal FLOPs."""
    memory_share: float
    """Of the memory bandwidth, what element-wise kernels sustain."""
    traffic: tuple[float, ...]
    """By stack: element-wise bytes over those of perfectly fused kernels."""
    quantize_traffic: float
    """Cast bytes over those of one fused cast."""
    host_launch_s: tuple[float, ...]
    """By stack: host time per kernel launch."""
    blocking_launch_s: float
    """Further host time of a launch that waits for its kernel (CUDA_LAUNCH_BLOCKING=1)."""
    host_message_s: float
    """Host time per collective, beyond a launch."""
    host_step_s: float
    """Host time per step."""
    domain_share: float
    """Of the scale-up bandwidth, what collectives sustain."""
    nic_share: float
    """Of the network bandwidth, what collectives sustain."""
    domain_latency_s: float
    nic_latency_s: float
    tp_hidden: float
    """Share of tensor- and context-parallel messages hidden where the stack overlaps them."""
    ep_hidden: float
    """Share of expert messages hidden where the stack overlaps."""
    compute_hides: float
    """Share of a pass's compute that can hide data-parallel messages."""
    interference: float
    """Seconds lost per second of hidden message: it takes processors and bandwidth."""
    scan_share: float
    """Of the matmul rate, what state-space scans sustain."""

    def by_stack(self, name: str, code: Num) -> NDArray[np.float64]:
        """Return the column of a per-stack constant."""
        values = getattr(self, name)
        table = np.asarray([values[min(row, len(values) - 1)] for row in range(len(FITTED))])
        return table[np.asarray(code, dtype=np.intp)]


def count_fitted(constants: Constants) -> int:
    """Return how many numbers were fitted."""
    return sum(np.size(getattr(constants, f.name)) for f in fields(constants))


def constants_from(rows: Mapping[str, Mapping[str, Any]]) -> Constants:
    """Build the record from the data file's rows."""
    values: dict[str, Any] = {}
    for field in fields(Constants):
        value = rows[field.name]["value"]
        values[field.name] = tuple(value) if isinstance(value, list) else float(value)
    return Constants(**values)


@cache
def fitted_rows() -> Mapping[str, Any]:
    """Return the shipped data file, parsed."""
    return read_toml(DATA / "fitted.toml")


@cache
def fitted_constants() -> Constants:
    """Return the shipped constants."""
    return constants_from(fitted_rows()["constants"])
