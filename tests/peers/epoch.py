"""Epoch AI's largest H100 plan below ten million GPUs, as a candidate of our cost model.

The peer is github.com/ege-erdil/limits_to_distributed_training (Erdil and Schneider-Joseph, 2024):
the row "d_model: 6.14e+04" of logs/grand_comparison_dense.txt, setting "H100 SXM". Constants are
those of gpu/gpu_model.py; no code of it is used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from crore.catalog import load_catalog
from crore.cost import (
    Constants,
    Job,
    Layout,
    Machine,
    Stack,
    fitted_constants,
    machine_of,
    shape_of,
    stack_of,
    step_time,
)
from crore.cost.goodput import PEER_MEMORY, restart_goodput
from crore.cost.schedules import schedule_code
from crore.cost.stack import without_overlap

WIDTH, FFN, LAYERS = 61_440, 245_760, 640
GPUS: Final = 2**23
BATCH_TOKENS: Final = 29_360_128
"""14 sequences of 2,048 tokens on each of 1,024 data-parallel ranks."""
TP, PP, VPP, DP = 128, 64, 10, 1024
SEQ: Final = 2048
MICRO_BATCHES: Final = 64
"""Its smallest count that fills the pipeline: 448 tokens each, a fifth of a sequence."""
TOKENS: Final = BATCH_TOKENS // (DP * MICRO_BATCHES)
PARAMETERS: Final = 2 * WIDTH * FFN * LAYERS
PEAK: Final = 32 * 128 * 132 * 1.83e9
"""FLOP/s: 32 per clock and thread, 132 SMs, 1,830 MHz."""
SUSTAINED: Final = 0.7
"""Its share of the peak for long runs of large products."""
LATENCY_S: Final = 5e-6
"""Of a reduce-scatter or all-gather on one network level, whatever its size."""
PRODUCT_LATENCY_S: Final = 4.5e-6
UTILISATION, FLOPS, MONTHS = 0.591, 4.48e28, 3.48
HEADS, HEAD_DIM = 512, 120
"""Its model has no attention; 128 ranks divide 512 heads, not the 480 of width 128."""
VOCAB: Final = 128_256
"""Llama 3's; it has none."""


def peer_step_s() -> float:
    """Return its own seconds per step: products, pipeline bubble, latency; all bandwidth hidden.

    Products: 6 per layer at 70 % of the peak and 4.5 us. Bubble: (p-1)/(p + vm - 1). Latency: per
    layer two all-reduces of two phases on each of two levels, and 2(pv - 1) boundary messages.
    """
    product = 2 * (WIDTH / 8) * (FFN / 16) * TOKENS / (SUSTAINED * PEAK) + PRODUCT_LATENCY_S
    products = 6 * product * LAYERS / PP * MICRO_BATCHES
    bubble = (PP - 1) / (PP + VPP * MICRO_BATCHES - 1)
    latency = (8 * LAYERS + 2 * (PP * VPP - 1) + 2) * LATENCY_S
    return products / (1 - bubble) + latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """The plan under one set of assumptions."""

    name: str
    job: Job
    constants: Constants
    stragglers: bool = False
    """True where the step waits for the slowest of all ranks."""
    goodput: float = 1.0

    @property
    def parts(self) -> dict[str, float]:
        """Seconds per step by cause."""
        step = step_time(self.job, self.constants)
        kept = {name: float(s) for name, s in step.parts.items() if self.stragglers or name != SLOW}
        return {name: s for name, s in kept.items() if s}

    @property
    def utilisation(self) -> float:
        """Model FLOPs over what the peak would do in the time; progress lost to failures is not."""
        flops = step_time(self.job, self.constants).model_flops
        return float(flops) / PEAK / sum(self.parts.values()) * self.goodput


SLOW: Final = "stragglers"


def layout() -> Layout:
    """Return the plan; its 8 x 16 tensor parallelism in two dimensions is 128 in one here."""
    return Layout(
        pp=float(PP), vpp=float(VPP), dp_shard=float(DP), tp=float(TP), sequence_parallel=1.0,
        schedule=float(schedule_code("interleaved")), zero=1.0,
    )  # fmt: skip


def stack() -> Stack:
    """Return its software: nothing is blocked, 16-bit gradients, no gradient accumulation."""
    own = stack_of("megatron-2025")
    return replace(own, reduce_bytes=2.0, grad_bytes=2.0, accumulate_bytes=0.0)


def machine() -> Machine:
    """Return its H100: 70 % of the peak; passes over memory take no time.

    All its products have 448 rows, which it does not round up; ours are rounded to 512, tiles of
    128: the rate is higher by as much.
    """
    rate = SUSTAINED * PEAK * 512 / TOKENS
    return replace(own_machine(), linear_measured=rate, half_measured=rate,
                   memory_bytes_per_s=np.inf)  # fmt: skip


def own_machine() -> Machine:
    """Return the catalogue's H100 (450 GB/s in an 8-GPU node, 50 GB/s per NIC, as its own)."""
    return machine_of(load_catalog().accelerator("h100-sxm"), "bf16")


NO_TILES: Final[dict[str, Any]] = {
    "gemm_share": 1.0, "wave_weight": 0.0, "small_tile_share": 1.0, "tile_prologue_s": 0.0,
    "ample_power": 0.1,
}  # fmt: skip
HIDDEN: Final[dict[str, Any]] = {
    "domain_share": np.inf, "nic_share": np.inf, "tp_hidden": 0.0, "compute_hides": 1.0,
    "interference": 0.0, "domain_latency_s": LATENCY_S / 7, "nic_latency_s": LATENCY_S / 4,
}  # fmt: skip
"""Bandwidth is free and latency exposed; 5 us per level, which ours reaches in 7 ring steps among
8 ranks and in log2(16) = 4 steps among 16 nodes."""
NO_HOST: Final[dict[str, Any]] = {
    "host_launch_s": (0.0,), "host_message_s": 0.0, "host_step_s": 0.0,
}  # fmt: skip


def job(**changes: Any) -> Job:
    """Return the question: 640 layers of one feed-forward each, sequences of one micro-batch."""
    none: dict[str, Any] = {
        "layers": LAYERS, "hidden": WIDTH, "ffn": FFN, "dense": LAYERS, "norms": LAYERS,
        "attention": 0.0, "heads": HEADS, "kv_heads": HEADS, "head_dim": HEAD_DIM, "vocab": 0.0,
        "tied": 0.0, "positions": 0.0, "bias": 0.0,
    }  # fmt: skip
    shape = replace(shape_of(load_catalog().model("gpt3-175b")), **none)
    values: dict[str, Any] = {
        "shape": shape, "layout": layout(), "machine": machine(), "stack": stack(),
        "seq_len": float(TOKENS), "global_batch": float(BATCH_TOKENS // TOKENS),
    }  # fmt: skip
    return Job(**(values | changes))


def assumed() -> Case:
    """Return the plan under its assumptions."""
    own = replace(fitted_constants(), **NO_TILES, **HIDDEN, **NO_HOST)
    return Case(name="its assumptions", job=job(), constants=own)


def messages_s() -> tuple[float, float]:
    """Return (messages, products) seconds per step at full bandwidth, no latency, nothing hidden.

    It hides messages behind products, so the first must be the smaller.
    """
    plain: dict[str, Any] = {"domain_share": 1.0, "nic_share": 1.0,
                             "domain_latency_s": 0.0, "nic_latency_s": 0.0}  # fmt: skip
    case = assumed()
    exposed = replace(case.job, stack=without_overlap(case.job.stack))
    parts = step_time(exposed, replace(case.constants, **plain)).parts
    return float(parts["tp"] + parts["pp"] + parts["dp"]), float(parts["products"])


def cases() -> Iterator[Case]:
    """Yield the plan with one more of its omissions made good at a time.

    Up to "the slowest" the micro-batches are its own: there all of our model is on.
    """
    yield assumed()
    ours, software = own_machine(), stack_of("megatron-2025")
    silent = replace(software, accumulate_bytes=0.0)
    free = replace(ours, memory_bytes_per_s=np.inf)
    for name, machine_, stack_, off in (
        ("+ measured product rate, tiles and waves", free, stack(), HIDDEN | NO_HOST),
        ("+ element-wise passes, optimizer", ours, silent, HIDDEN | NO_HOST),
        ("+ gradient accumulation", ours, software, HIDDEN | NO_HOST),
        ("+ messages: bandwidth, latency by size", ours, software, NO_HOST),
        ("+ kernel launches by the host", ours, software, {}),
    ):
        here = job(machine=machine_, stack=stack_)
        case = Case(name=name, job=here, constants=replace(fitted_constants(), **off))
        yield case
    yield from with_the_rest(case)


def with_the_rest(case: Case) -> Iterator[Case]:
    """Yield what its model lacks (attention, ends), then slow ranks, whole sequences, failures."""
    shape = replace(case.job.shape, attention=float(LAYERS), norms=2.0 * LAYERS)
    case = replace(case, name="+ attention, 512 heads of 120", job=replace(case.job, shape=shape))
    yield case
    ends = replace(case.job, shape=replace(shape, vocab=float(VOCAB)))
    case = replace(case, name="+ embedding, head and loss", job=ends)
    yield case
    case = replace(case, name="+ the slowest of 8,388,608 ranks", stragglers=True)
    yield case
    whole = replace(ends, seq_len=float(SEQ), global_batch=float(BATCH_TOKENS // SEQ))
    case = replace(case, name="+ whole sequences: 14 micro-batches", job=whole)
    yield case
    lost = float(restart_goodput(GPUS, *PEER_MEMORY))
    yield replace(case, name="+ failures, restart from peer memory", goodput=lost)
