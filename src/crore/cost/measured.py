"""Seconds of one operation from what `crore calibrate` measured on this very machine.

The operation list is the planner's own; only the prices differ. Between measured points the
logarithm of the time is linear in the logarithms of the sizes, so a table is exact at its points
and rises wherever they do; outside it time goes with the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crore.catalog.calibration import Measured, Passes
from crore.cost.arrays import Num
from crore.cost.constants import Constants
from crore.cost.job import Job
from crore.cost.operations import Gemm, Operation
from crore.cost.step_messages import group_of
from crore.errors import InputError

UPDATE_BYTES = 28.0
"""Bytes that AdamW moves per 32-bit weight: four tensors read, three written."""
TENSORS = {"map": 3.0, "exp": 2.0}
"""Tensors that the measured pass of a class moves."""


class Table:
    """Positive numbers on a grid of positive axes, the last axis running fastest."""

    def __init__(self, axes: Sequence[Sequence[float]], values: Sequence[float]) -> None:
        self._axes = [np.log(np.asarray(axis, dtype=float)) for axis in axes]
        shape = [len(axis) for axis in axes]
        self._values = np.log(np.asarray(values, dtype=float)).reshape(shape)

    def at(self, *where: Num) -> NDArray[np.float64]:
        """Return the table at a point inside the grid, or at the nearest point of its edge."""
        spots = [_spot(a, np.asarray(x)) for a, x in zip(self._axes, where, strict=True)]
        total: NDArray[np.float64] = np.zeros(np.broadcast_shapes(*(i.shape for i, _ in spots)))
        for corner in np.ndindex(*(min(2, axis.size) for axis in self._axes)):
            weight: Num = 1.0
            for side, (_, share) in zip(corner, spots, strict=True):
                weight = weight * (share if side else 1 - share)
            index = tuple(i + side for side, (i, _) in zip(corner, spots, strict=True))
            total = total + weight * self._values[index]
        return np.asarray(np.exp(total))

    def clipped(self, *where: Num) -> list[Num]:
        """Return the point of the grid nearest to `where`."""
        ends = [(np.exp(axis[0]), np.exp(axis[-1])) for axis in self._axes]
        return [np.clip(x, *end) for x, end in zip(where, ends, strict=True)]


def _spot(axis: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.intp], Num]:
    """Return the interval of an axis that a coordinate falls into, and how far into it."""
    if axis.size == 1:
        return np.zeros(x.shape, dtype=np.intp), np.zeros(x.shape)
    place = np.log(np.maximum(x, 1e-300))
    index = np.clip(np.searchsorted(axis, place, side="right") - 1, 0, axis.size - 2)
    share = (place - axis[index]) / (axis[index + 1] - axis[index])
    return index, np.clip(share, 0.0, 1.0)


class MeasuredPricer:
    """Prices operations of one job by the measured tables of its machine."""

    def __init__(self, job: Job, constants: Constants) -> None:
        found = job.machine.measured
        assert found is not None
        self.job, self.measured = job, found
        self.constants = serial(constants) if found.device == "cpu" else with_host(constants, found)
        setting = found.setting
        self._precision = "fp32" if np.all(np.equal(job.machine.element_scale, 2)) else "bf16"
        if self._precision not in setting.products:
            raise InputError(
                f"this machine was measured in {', '.join(setting.products)}, not in "
                f'{self._precision}: set precision = "fp32"'
            )
        rates = setting.products[self._precision]
        axes = (rates.m, rates.n, rates.k)
        self._products = [
            Table(axes, seconds) for seconds in (rates.forward_s, rates.input_s, rates.weight_s)
        ]
        core = setting.attention[self._precision]
        grid = (core.seq, core.head_dim)
        self._attention = Table(grid, core.forward_s), Table(grid, core.backward_s)
        self._passes = {name: _pass_tables(it) for name, it in setting.passes.items()}
        self._optimizer = Table((setting.optimizer.size,), setting.optimizer.seconds)
        self._messages = {
            name: Table((curve.size,), curve.seconds) for name, curve in setting.messages.items()
        }
        serial_host = found.device == "cpu"
        self._launch_s = setting.launch_s if serial_host else 0.0
        self._gemms: dict[tuple[int, bool], tuple[Gemm, Num]] = {}

    def seconds(self, op: Operation) -> Num:
        """Return seconds of one execution of `op`: its entry of the measured table, and launches.

        Products by (m, n, k), passes by the size of their tensors, attention by sequence and head
        width, messages by their buffer. In a whole step each takes `step_factor` times as long;
        processes beyond those measured share: `crowding` times.
        """
        alone_s = self._work(op) + op.launches * self._launch_s
        return alone_s * self.measured.setting.step_factor * self.measured.crowding

    def _work(self, op: Operation) -> Num:
        if op.gemm is not None:
            return self._gemm(op.gemm, backward=op.phase == "backward")
        if op.kind == "attention":
            return self._core(op)
        if op.kind == "collective":
            return self._message(op)
        if op.kind == "optimizer":
            weights = op.bytes_moved / UPDATE_BYTES
            return _along(self._optimizer, weights)
        if op.kind == "transfer":
            return op.message_bytes / self.job.machine.host_bytes_per_s
        if op.kind == "scan":
            return op.flops / self.job.machine.half_measured
        return self._pass(op)

    def _gemm(self, gemm: Gemm, *, backward: bool) -> Num:
        key = (id(gemm), backward)
        if key not in self._gemms:
            tables = self._products[1:] if backward else self._products[:1]
            seconds: Num = sum((self._product(t, gemm) for t in tables), start=0.0)
            self._gemms[key] = gemm, seconds  # kept, so that no other product gets its identity
        return self._gemms[key][1]

    @staticmethod
    def _product(table: Table, gemm: Gemm) -> Num:
        """One product's seconds; outside the grid at the rate of its edge."""
        m, n, k = table.clipped(gemm.m, gemm.n, gemm.k)
        work = (gemm.m / m) * (gemm.n / n) * (gemm.k / k)
        return table.at(gemm.m, gemm.n, gemm.k) * work * gemm.groups

    def _core(self, op: Operation) -> Num:
        """Attention by its sequence and head width; a mask that sees less is taken as causal."""
        s, seq = self.job.shape, self.job.seq_len
        width = s.head_dim * (1 - s.mla) + (s.qk_nope + s.qk_rope) * s.mla
        table = self._attention[op.phase == "backward"]
        length, wide = table.clipped(seq, width)
        heads = self.job.layout.micro_batch * s.heads / self.job.layout.tp / self.job.layout.cp
        return table.at(seq, width) * (seq / length) ** 2 * (width / wide) * heads

    def _pass(self, op: Operation) -> Num:
        """Kernels of one tensor size: hot inputs forward, one of two cold backward.

        A backward exponential reads a third tensor that costs next to nothing beside it.
        """
        kind = "exp" if op.exponential else "map"
        hot, cold = self._passes[kind]
        scale = self.job.machine.element_scale
        moved = op.bytes_moved * scale
        back = op.phase == "backward"
        if op.exponential and back:
            moved = moved * 2 / 3
        size = np.where(np.greater(op.tensor_bytes, 0), op.tensor_bytes * scale, moved / 2)
        size = np.maximum(size, 1.0)
        kernels = moved / (TENSORS[kind] * size)
        each = _along(hot, size)
        if back:
            each = (each + _along(cold, size)) / 2
        return each * kernels

    def _message(self, op: Operation) -> Num:
        if op.collective == "receive":
            return 0.0
        size = np.maximum(op.message_bytes * self.job.machine.element_scale, 1.0)
        if self._messages:
            beside = self.measured.setting.shard_s if op.axis == "dp_shard" else 0.0
            return _along(self._messages[op.collective], size) + beside
        group = group_of(self.job, op.axis, self.constants, op.expert)
        if np.any(np.greater(group.ranks, 1) & np.greater(op.count, 0)):
            raise InputError(
                "this machine was measured with one process, and this plan has several: "
                "crore calibrate --processes 2"
            )
        return 0.0 * size


def _pass_tables(it: Passes) -> tuple[Table, Table]:
    return Table((it.size,), it.hot_s), Table((it.size,), it.cold_s)


def _along(table: Table, size: Num) -> Num:
    """Return a curve's seconds at a size: no less than its first, in proportion beyond its last."""
    (edge,) = table.clipped(size)
    return table.at(size) * np.maximum(size / edge, 1.0)


def serial(c: Constants) -> Constants:
    """Return constants of a machine where one thread launches, computes and waits: time adds up."""
    return replace(
        c, host_launch_s=(0.0,), blocking_launch_s=0.0, host_message_s=0.0, host_step_s=0.0,
        compute_hides=0.0, interference=0.0, tp_hidden=0.0, ep_hidden=0.0,
    )  # fmt: skip


def with_host(c: Constants, measured: Measured) -> Constants:
    """Return constants of a card whose host needs this long per launch."""
    return replace(c, host_launch_s=(measured.setting.launch_s,))
