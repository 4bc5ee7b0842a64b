"""Pipeline schedules: one table for the planner, the simulator and the trainer.

Sources: 1F1B and interleaved, Narayanan et al. 2021 (arXiv 2104.04473); zero bubble, Qi et al.
2024 (arXiv 2401.10241); DualPipe, DeepSeek-V3 report (arXiv 2412.19437); DualPipeV, sail-sg 2025.
`F`, `B` and `W` are the forward, input-gradient and weight-gradient time of one stage and one
micro-batch, `p` stages, `v` virtual stages per rank, `m` micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """One row: how long the pipe idles, what it holds in flight, who can run it."""

    name: str
    bubble_forward: float
    """Coefficient of F in the bubble, per stage that waits."""
    bubble_backward: float
    """Coefficient of B."""
    bubble_weight: float
    """Coefficient of W (negative: weight gradients fill the bubble)."""
    busy_stages: float
    """Stages that do not wait: `p - busy_stages` do."""
    virtual_chunks: int
    """Model chunks per rank: 1, 2 (V shapes), or 0 for the layout's own vpp."""
    in_flight_all: bool
    """GPipe holds every micro-batch."""
    in_flight_stages: float
    """Otherwise the first stage holds `in_flight_stages·p + in_flight_extra` micro-batches."""
    in_flight_extra: float
    weight_copies: float
    """Copies of the stage's weights on a rank (DualPipe 2)."""
    transfers: float
    """Stage-boundary messages per micro-batch and direction on a rank, over 1F1B's one."""
    fill_stages: float
    """Micro-batches per stage that the bubble's formula needs: fewer leave the pipe part empty."""
    runs_on: tuple[str, ...]
    """Who can execute it."""
    source: str


def _row(
    name: str,
    bubble: tuple[float, float, float],
    chunks: int,
    flight: tuple[float, float],
    runs_on: tuple[str, ...],
    source: str,
    *,
    busy: float = 1.0,
    copies: float = 1.0,
    transfers: float = 1.0,
    fill: float = 0.0,
) -> Schedule:
    return Schedule(
        name=name, bubble_forward=bubble[0], bubble_backward=bubble[1], bubble_weight=bubble[2],
        busy_stages=busy, virtual_chunks=chunks, in_flight_all=name == "gpipe",
        in_flight_stages=flight[0], in_flight_extra=flight[1], weight_copies=copies,
        transfers=transfers, fill_stages=fill,
        runs_on=runs_on, source=source,
    )  # fmt: skip


_TORCH = "torch.distributed.pipelining"
_ZB = "arXiv 2401.10241"
SCHEDULES: Final[tuple[Schedule, ...]] = (
    _row("gpipe", (1, 1, 1), 1, (1, 0), (_TORCH,), "arXiv 1811.06965"),
    _row("1f1b", (1, 1, 1), 1, (1, 0), (_TORCH, "megatron", "deepspeed"), "arXiv 2104.04473"),
    _row("interleaved", (1, 1, 1), 0, (1, 0), (_TORCH, "megatron"), "arXiv 2104.04473",
         transfers=0),
    _row("zb-h1", (1, 1, -1), 1, (1, 0), (_TORCH, "zero-bubble megatron fork"), _ZB,
         fill=1),
    _row("zb-h2", (1, 1, -2), 1, (2, -1), ("zero-bubble megatron fork",), _ZB, fill=2),
    _row("zb-v", (0, 0, 0), 2, (1, 0), (_TORCH, "zero-bubble megatron fork"), _ZB, transfers=2,
         fill=2),
    # Their B is the whole backward and F&B, two passes overlapped, lasts as long as both:
    # (p/2 - 1)(F&B + B - 3W) = (p - 2)(F/2 + B - W/2) in our B. DualPipeV cuts 2p half stages.
    _row("dualpipe", (0.5, 1, -0.5), 2, (1, 1), ("deepseek-ai/DualPipe",), "arXiv 2412.19437",
         busy=2.0, copies=2.0, transfers=2, fill=2),
    _row("dualpipe-v", (0.5, 1, -0.5), 2, (1, 0.5), (_TORCH, "deepseek-ai/DualPipe"),
         "github deepseek-ai/DualPipe README", transfers=2, fill=2),
)  # fmt: skip
SCHEDULE_NAMES: Final = tuple(schedule.name for schedule in SCHEDULES)


def schedule_code(name: str) -> int:
    """Return the row number that stands for a schedule in a layout's column."""
    return SCHEDULE_NAMES.index(name)


def _pick(field: str, code: Num) -> NDArray[np.float64]:
    table = np.array([float(getattr(schedule, field)) for schedule in SCHEDULES])
    return table[np.asarray(code, dtype=np.intp)]


def bubble_s(code: Num, pp: Num, vpp: Num, forward_s: Num, backward_s: Num, weight_s: Num) -> Num:
    """Return idle seconds per step of a pipeline of equal stages, never negative.

    The `*_s` are one rank's times per micro-batch over all its chunks.
    """
    idle = (
        _pick("bubble_forward", code) * forward_s
        + _pick("bubble_backward", code) * backward_s
        + _pick("bubble_weight", code) * weight_s
    )
    return np.maximum(idle, 0.0) * np.maximum(pp - _pick("busy_stages", code), 0.0) / vpp


def in_flight(code: Num, pp: Num, vpp: Num, micro_batches: Num) -> Num:
    """Return micro-batches whose activations the first stage holds, in whole-stage units.

    Interleaving holds `p(1 + (p-1)/(pv))` (arXiv 2205.05198 §4); none holds more than `m`, and one
    stage holds one.
    """
    held = _pick("in_flight_stages", code) * pp + _pick("in_flight_extra", code)
    interleaved = np.where(np.greater(vpp, 1), (pp - 1) / vpp, 0.0)
    held = held + np.where(_pick("virtual_chunks", code) == 0, interleaved, 0.0)
    everything = _pick("in_flight_all", code) > 0
    held = np.minimum(np.where(everything, micro_batches, held), micro_batches)
    return np.where(np.equal(pp, 1), 1.0, held)


def weight_copies(code: Num, pp: Num) -> Num:
    """Return copies of a stage's weights a rank holds."""
    return np.where(np.equal(pp, 1), 1.0, _pick("weight_copies", code))


def least_micro_batches(code: Num, pp: Num) -> Num:
    """Return the micro-batches from which on a schedule's bubble formula holds.

    torch's ZBV schedule runs at least `2p - 1`, DualPipe asks for `2p` (their sources).
    """
    return _pick("fill_stages", code) * pp


def chunks_per_rank(code: Num, vpp: Num) -> Num:
    """Return model chunks on a rank: two in V shapes, else the layout's own."""
    return np.maximum(_pick("virtual_chunks", code), vpp)


def transfers(code: Num, vpp: Num) -> Num:
    """Return boundary messages per micro-batch and direction on a rank: one per chunk."""
    fixed = _pick("transfers", code)
    return np.where(fixed > 0, fixed, vpp)
