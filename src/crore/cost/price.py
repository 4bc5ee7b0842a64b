"""Seconds of one operation on one rank: products, kernels, passes over memory, messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.collectives import COLLECTIVES, Group, all_to_all_s
from crore.cost.constants import Constants
from crore.cost.job import Job
from crore.cost.layout import indivisible
from crore.cost.machine import Machine
from crore.cost.operations import Axis, Gemm, Operation
from crore.cost.step_messages import group_of

TILE = 128
"""Unit of the tile edges; a 128 x 128 area is the unit of a wave's work."""
ALIGNMENT = 8
"""Elements of 16 bits in the 16-byte units that matrix units load."""
KERNEL_GAP_S = 2.5e-6
"""Device time between two dependent kernels: drain, launch, fill (2-5 us on CUDA streams)."""
MISALIGNED = 3.0
"""Slow-down of a product whose rows are no multiple of 16 bytes (NVIDIA deep-learning performance
guide, matrix multiplication: without alignment the A100 loads 2 bytes at a time)."""
SCORE_FALLBACK = 2.0
"""Passes of the unfused softmax (scale, mask, softmax) over those of the fused kernel."""
EARLY_GROUPED_SHARE = 0.8
"""Of the product rate, what products of many experts sustain before Hopper: the prior of the fitted
share. Every fitted row with experts ran on Hopper or later, so nothing moved it for earlier parts;
there MegaBlocks' kernels alone reach 0.986 of cuBLAS (arXiv 2211.15841, A100)."""
PROGRESS = 0.9
"""Share of memory bandwidth a product's operands stream at when it is memory bound."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What the machine sustains, after the fitted shares; floats or `[N]`."""

    half_flops_per_s: Num
    linear_flops_per_s: Num
    batched_flops_per_s: Num
    flash_flops_per_s: Num
    scan_flops_per_s: Num
    memory_bytes_per_s: Num
    traffic: Num
    quantize: Num


def rates_of(job: Job, c: Constants) -> Rates:
    """Return sustained rates of the job's machine and stack."""
    m, stack = job.machine, job.stack
    power = np.sqrt(np.minimum(m.watts_per_tflops / c.ample_power, 1.0))
    half_ceiling = np.where(
        np.greater(m.half_measured, 0), m.half_measured, m.half_peak * c.unmeasured_share
    )
    linear_ceiling = np.where(
        np.greater(m.linear_measured, 0), m.linear_measured, m.linear_peak * c.unmeasured_share
    )
    half = half_ceiling * power
    narrow = np.where(np.equal(m.narrow, 2), c.gemm_share_fp4, c.gemm_share_fp8)
    share = np.where(np.greater(m.narrow, 0), narrow, c.gemm_share)
    flash2 = np.where(np.greater(m.asynchronous, 0), c.flash2_hopper_share, c.flash2_share)
    native = stack.flash_native * m.asynchronous
    flash = c.flash3_share * native + flash2 * (1 - native)
    return Rates(
        half_flops_per_s=half * c.gemm_share,
        linear_flops_per_s=linear_ceiling * power * share,
        batched_flops_per_s=half * c.batched_share,
        flash_flops_per_s=half * flash,
        scan_flops_per_s=half * c.scan_share,
        memory_bytes_per_s=m.memory_bytes_per_s * c.memory_share,
        traffic=c.by_stack("traffic", stack.code),
        quantize=c.quantize_traffic,
    )


def gemm_s(gemm: Gemm, machine: Machine, rates: Rates, c: Constants) -> Num:
    """Seconds of `groups` products: waves of tiles, or the operands' traffic if that is longer.

    Tiles of 256 x 128 or, at a lower rate, 128 x 64, whichever end sooner; with `w = tiles/SMs`,
    `t = (w + weight·(ceil(w) - w))·(2·area·k/rate_per_sm + prologue)`. Products with a dimension
    that is no multiple of 8 elements load in smaller units and run slower. Left out: split-k, other
    tile shapes, cache reuse between products.
    """
    batched = present(np.greater(gemm.groups, 1)) and gemm.half
    rate = rates.linear_flops_per_s
    if gemm.experts:
        modern = np.greater(machine.asynchronous, 0)
        rate = rate * np.where(modern, c.grouped_share, EARLY_GROUPED_SHARE)
    if gemm.half:
        rate = rates.batched_flops_per_s if batched else rates.half_flops_per_s
    each = gemm.groups / machine.sms
    large = np.ceil(gemm.m / (2 * TILE)) * np.ceil(gemm.n / TILE) * each
    small = np.ceil(gemm.m / TILE) * np.ceil(2 * gemm.n / TILE) * each
    large = 2.0 * (large + c.wave_weight * (np.ceil(large) - large))
    small = 0.5 * (small + c.wave_weight * (np.ceil(small) - small)) / c.small_tile_share
    waves = np.minimum(large, small)
    busy = waves * (2.0 * TILE * TILE * machine.sms * gemm.k / rate + c.tile_prologue_s)
    elements = gemm.m * gemm.k + gemm.k * gemm.n + gemm.m * gemm.n
    streaming = 2.0 * gemm.groups * elements / (machine.memory_bytes_per_s * PROGRESS)
    odd = indivisible(gemm.n, ALIGNMENT) | indivisible(gemm.k, ALIGNMENT)
    slow = 1 + (MISALIGNED - 1) * odd
    seconds: Num = np.maximum(busy * slow, streaming) + KERNEL_GAP_S
    return seconds


def score_slowdown(job: Job) -> Num:
    """Slow-down of the softmax where Megatron's fused kernel does not apply.

    It needs heads x micro-batch on a rank in multiples of 4 and at most 4,096 keys
    (NVIDIA/Megatron-LM fused_softmax.py).
    """
    batch = job.shape.heads / job.layout.tp * job.layout.micro_batch
    falls = indivisible(batch, 4) | np.greater(job.seq_len, 4096)
    return np.where(falls, SCORE_FALLBACK, 1.0)


class Pricer:
    """Prices operations of one job; products that share a shape are priced once."""

    def __init__(self, job: Job, constants: Constants) -> None:
        self.job = job
        self.constants = constants
        self.rates = rates_of(job, constants)
        self._gemms: dict[int, Num] = {}
        self._groups: dict[tuple[Axis, bool], Group] = {}
        self._messages: dict[tuple[object, ...], tuple[Num, Num]] = {}

    def seconds(self, op: Operation) -> Num:
        """Return seconds of one execution of `op`, a float or `[N]`."""
        rates, c = self.rates, self.constants
        if op.gemm is not None:
            return self._gemm(op.gemm) * op.passes
        if op.kind == "attention":
            slow = c.flash_backward if op.phase == "backward" else 1.0
            return op.flops / rates.flash_flops_per_s * slow + KERNEL_GAP_S
        if op.kind == "scan":
            return op.flops / rates.scan_flops_per_s + op.launches * KERNEL_GAP_S
        if op.kind == "collective":
            return self._collective(op)
        if op.kind == "transfer":
            return self._message_bytes(op) / self.job.machine.host_bytes_per_s
        return self._pass(op)

    def _gemm(self, gemm: Gemm) -> Num:
        key = id(gemm)
        if key not in self._gemms:
            self._gemms[key] = gemm_s(gemm, self.job.machine, self.rates, self.constants)
        return self._gemms[key]

    def _message_bytes(self, op: Operation) -> Num:
        """Buffers are listed for 16-bit elements; optimizer states have their own width."""
        states = op.repeat == "step" and op.kind == "transfer"
        return op.message_bytes * (1.0 if states else self.job.machine.element_scale)

    def _group(self, axis: Axis, expert: bool) -> Group:
        key = (axis, expert)
        if key not in self._groups:
            self._groups[key] = group_of(self.job, axis, self.constants, expert)
        return self._groups[key]

    def _pass(self, op: Operation) -> Num:
        gap = op.launches * KERNEL_GAP_S
        if op.kind == "optimizer" or op.name == "gradient accumulation":
            return op.bytes_moved / self.rates.memory_bytes_per_s + gap
        factor = self.rates.traffic
        if op.scores:
            factor = score_slowdown(self.job)
        elif op.name.endswith("cast"):
            factor = self.rates.quantize
        moved = op.bytes_moved * factor * self.job.machine.element_scale
        return moved / self.rates.memory_bytes_per_s + gap

    def _collective(self, op: Operation) -> Num:
        """Price a message once: recompute sends it again, and backward one of the same size."""
        function = COLLECTIVES.get(op.collective, all_to_all_s)
        key = (op.axis, op.expert, op.repeat, function, id(op.message_bytes))
        if key not in self._messages:
            self._messages[key] = op.message_bytes, self._message(op)
        return self._messages[key][1]

    def _message(self, op: Operation) -> Num:
        group = self._group(op.axis, op.expert)
        if op.collective == "all_to_all":
            return all_to_all_s(group, self._message_bytes(op), self.job.shape.topk)
        return COLLECTIVES[op.collective](group, self._message_bytes(op))
