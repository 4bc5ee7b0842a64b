"""How fast a run goes and what it holds, measured and against the plan's prediction."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from crore.train.records import MemoryKind, Prediction

WINDOW: Final = 32
"""Steps that a median looks back on."""
HALF_LIFE: Final = 8.0
"""Steps after which a step time counts half in the mean."""
_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Step times so far; the first of a process, which warms up, counts only while alone."""

    recent_s: tuple[float, ...] = ()
    """Up to `WINDOW` step times, last one last."""
    mean_s: float = 0.0
    """Exponential mean; 0 before the first step."""
    steps: int = 0
    """Steps seen."""

    def after(self, step_time_s: float) -> Pace:
        """Return the pace with one step more."""
        if self.steps < 2:
            return Pace(recent_s=(step_time_s,), mean_s=step_time_s, steps=self.steps + 1)
        weight = 1 - 0.5 ** (1 / HALF_LIFE)
        return Pace(
            recent_s=(*self.recent_s[1 - WINDOW :], step_time_s),
            mean_s=self.mean_s + weight * (step_time_s - self.mean_s),
            steps=self.steps + 1,
        )

    @property
    def median_s(self) -> float:
        """The step time to show: a stall of one step does not move it; 0 before the first."""
        return median(self.recent_s) if self.recent_s else 0.0

    def eta_s(self, steps_left: int) -> float | None:
        """Return the time until the last step; None before the first."""
        return steps_left * self.mean_s if self.steps else None


def mfu(
    flops_per_token: float, tokens_per_s: float, peak_flops: float | None, ranks: int
) -> float | None:
    """Return the share of the dense peak that model FLOPs use; None where the peak is unknown.

    `flops_per_token` leaves recompute out (PaLM, arXiv 2204.02311, appendix B); `tokens_per_s` is
    of all `ranks`, `peak_flops` of one.
    """
    if not peak_flops:
        return None
    return flops_per_token * tokens_per_s / (peak_flops * ranks)


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Peak memory of this process."""

    bytes: float
    kind: MemoryKind


def peak_memory(device: str, counted_bytes: float | None = None) -> Memory:
    """Return the peak of this process so far on `device` (`cpu`, `cuda`, `cuda:1`).

    On CUDA the allocator counts tensors. On a CPU the trainer's own count `counted_bytes` does, if
    given; else it is the whole process, Python and libraries included.
    """
    if device.startswith("cuda"):
        import torch

        return Memory(bytes=float(torch.cuda.max_memory_allocated(device)), kind="tensors")
    if counted_bytes is not None:
        return Memory(bytes=counted_bytes, kind="tensors")
    return Memory(bytes=resident_bytes(), kind="resident")


def resident_bytes() -> float:
    """Return the peak of physical memory that this process held."""
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return _rusage_bytes()
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024.0 * int(peaks[0]) if peaks else _rusage_bytes()


def _rusage_bytes() -> float:
    import resource

    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def prediction_of(plan: Mapping[str, Any]) -> Prediction:
    """Return the prediction that a plan's record (the body of plan.json) holds.

    Memory is that of tensors, which a run can count: what the process and its allocator hold
    beside them is left out.
    """
    step, split = plan["step_time_s"], plan["memory_split_bytes"]
    beside = sum(split.get(part, 0.0) for part in ("context", "fragmentation"))
    return Prediction(
        step_time_s=step["value"],
        step_time_low_s=step["low"],
        step_time_high_s=step["high"],
        tokens_per_s=plan["tokens_per_s"],
        memory_bytes=plan["memory_bytes_per_gpu"] - beside,
        evidence=step["evidence"],
    )


def against(measured: float, predicted: float) -> float:
    """Return how far a measurement is above its prediction, as a share of the prediction."""
    return measured / predicted - 1


def signed_percent(share: float) -> str:
    """Return a difference as a signed percentage, whole from 10 % on: `+5.2 %`, `-12 %`."""
    size = abs(100 * share)
    sign = "-" if share < 0 and round(size, 1) > 0 else "+"
    return f"{sign}{size:.1f} %" if size < 9.95 else f"{sign}{size:.0f} %"
