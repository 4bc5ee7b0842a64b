"""Pipeline schedules: one table for the planner, the simulator and the trainer.

Sources: 1F1B and interleaved, Narayanan et al. 2021 (arXiv 2104.04473); zero bubble, Qi et al.
2024 (arXiv 2401.10241, 2405.15362); DualPipe, DeepSeek-V3 report (arXiv 2412.19437); DualPipeV,
sail-sg 2025.
`F`, `B` and `W` are the forward, input-gradient and weight-gradient time of one stage and one
micro-batch, `p` stages, `v` virtual stages per rank, `m` micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.cost.arrays import Num
from crore.cost.schedule_paths import (
    DUALPIPE,
    DUALPIPE_V,
    GPIPE,
    ONE_F_ONE_B,
    ZB_H1,
    ZB_H2,
    ZB_V,
    Path,
    Turn,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """One row: how long the pipe idles, what it holds in flight, who can run it."""

    name: str
    paths: tuple[Path, ...]
    """The step is the longest of them, or the slowest rank's own passes."""
    turn: Turn | None
    """None where nothing that a message waits for comes round: GPipe."""
    ends_apart: float
    """1 where first and last stage are on two ranks, 0 where a V has them on one; 0.5 where each of
    two ranks has both, for half of the micro-batches."""
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
    steps_overlap: bool
    """A rank begins its next step when its own passes are done, whatever the others still do."""
    runs_on: tuple[str, ...]
    """Who can execute it."""
    source: str


def _row(
    name: str,
    paths: tuple[Path, ...],
    chunks: int,
    flight: tuple[float, float],
    runs_on: tuple[str, ...],
    source: str,
    *,
    turn: Turn | None = None,
    ends_apart: float = 1.0,
    busy: float = 1.0,
    copies: float = 1.0,
    transfers: float = 1.0,
    fill: float = 0.0,
    steps_overlap: bool = False,
) -> Schedule:
    return Schedule(
        name=name, paths=paths, turn=turn, ends_apart=ends_apart, busy_stages=busy,
        virtual_chunks=chunks, in_flight_all=name == "gpipe",
        in_flight_stages=flight[0], in_flight_extra=flight[1], weight_copies=copies,
        transfers=transfers, fill_stages=fill, steps_overlap=steps_overlap,
        runs_on=runs_on, source=source,
    )  # fmt: skip


_TORCH = "torch.distributed.pipelining"
_ZB = "arXiv 2401.10241"
SCHEDULES: Final[tuple[Schedule, ...]] = (
    _row("gpipe", GPIPE, 1, (1, 0), (_TORCH,), "arXiv 1811.06965"),
    _row("1f1b", ONE_F_ONE_B, 1, (1, 0), (_TORCH, "megatron", "deepspeed"), "arXiv 2104.04473",
         turn=Turn(hops=2)),
    _row("interleaved", GPIPE, 0, (1, 0), (_TORCH, "megatron"), "arXiv 2104.04473",
         transfers=0, turn=Turn(hops=1, slack=(1, 0, 0))),
    _row("zb-h1", ZB_H1, 1, (1, 0), (_TORCH, "zero-bubble megatron fork"), _ZB,
         fill=1, turn=Turn(hops=2, slack=(0, 0, 1))),
    # Its one runner checks the norm afterwards.
    _row("zb-h2", ZB_H2, 1, (2, -1), ("zero-bubble megatron fork",), _ZB, fill=2,
         steps_overlap=True, turn=Turn(hops=1, slack=(0.5, 0.5, 1))),
    _row("zb-v", ZB_V, 2, (1, 0), (_TORCH, "zero-bubble megatron fork"), "arXiv 2405.15362",
         transfers=2, fill=2, ends_apart=0, turn=Turn(hops=2, slack=(1, 0, 1))),
    _row("dualpipe", DUALPIPE, 2, (1, 1), ("deepseek-ai/DualPipe",), "arXiv 2412.19437",
         busy=2.0, copies=2.0, fill=2, ends_apart=0.5, turn=Turn(hops=1)),
    _row("dualpipe-v", DUALPIPE_V, 2, (1, 0.5), (_TORCH, "deepseek-ai/DualPipe"),
         "github deepseek-ai/DualPipe README", transfers=2, fill=2, ends_apart=0,
         turn=Turn(hops=2)),
)  # fmt: skip
SCHEDULE_NAMES: Final = tuple(schedule.name for schedule in SCHEDULES)


def schedule_code(name: str) -> int:
    """Return the row number that stands for a schedule in a layout's column."""
    return SCHEDULE_NAMES.index(name)


def _pick(field: str, code: Num) -> NDArray[np.float64]:
    table = np.array([float(getattr(schedule, field)) for schedule in SCHEDULES])
    return table[np.asarray(code, dtype=np.intp)]


def ends_apart(code: Num) -> Num:
    """Return 1 where a pipeline's two ends are on two ranks, 0 on one, 0.5 on both in turn."""
    return _pick("ends_apart", code)


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
