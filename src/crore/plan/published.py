"""Published runs as jobs: layout fixed as printed, unknown fields the cheapest that fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crore.catalog import Catalog, ModelSpec, PublishedRun
from crore.cost.arrays import stack_columns
from crore.cost.job import Job
from crore.cost.layout import FULL, RECOMPUTE, ZERO, Layout
from crore.cost.machine import machine_of
from crore.cost.memory import memory
from crore.cost.schedules import schedule_code
from crore.cost.shape import shape_of
from crore.cost.step import operations
from crore.cost.stack import overlaps_messages, stack_for_software, stack_of, without_overlap

GBIT = 1e9 / 8
_DTYPE_BYTES = {"fp16": 2.0, "bf16": 2.0, "fp32": 4.0}


def layout_of(run: PublishedRun, model: ModelSpec, expert_tp: bool) -> Layout:
    """Return the layout of one run as plain floats; unknown recompute and sharding are guesses.

    An absent `vpp` or `ep` means 1; absent expert tensor parallelism follows the stack.
    """
    dp = float(run.dp)
    zero = ZERO.index(run.sharding) if run.sharding in ZERO else 1
    shard = float(run.sharding_group or run.dp) if zero else 1.0
    etp = run.etp or (run.tp if expert_tp else 1)
    return Layout(
        pp=float(run.pp), vpp=float(run.vpp or 1), cp=float(run.cp), tp=float(run.tp),
        ep=float(run.ep or 1), etp=float(etp if model.experts else run.tp),
        dp_shard=shard, dp_replicate=dp / shard, micro_batch=float(run.micro_batch),
        schedule=float(schedule_code("interleaved" if (run.vpp or 1) > 1 else "1f1b")),
        sequence_parallel=float(run.tp > 1 if run.sequence_parallel is None else run.sequence_parallel),
        recompute=_recompute(run),
        zero=float(zero), tp_overlap=float(bool(run.tp_overlap)),
        offload_activations=_offloaded(run, model),
    )  # fmt: skip


def _recompute(run: PublishedRun) -> float:
    """Selective by named modules is `light` unless the attention core is among them."""
    mode = run.recompute or "none"
    if mode == "selective" and run.recompute_modules and "core_attn" not in run.recompute_modules:
        mode = "light"
    return float(RECOMPUTE.index(mode))


def _offloaded(run: PublishedRun, model: ModelSpec) -> float:
    """Share of layers whose activations go to the host, from "activations of N layers to CPU"."""
    found = re.search(r"activations of (\d+) layers", run.offload or "")
    return min(int(found[1]) / model.layers, 1.0) if found else 0.0


def job_of(run: PublishedRun, catalog: Catalog) -> Job:
    """Return one run as a job of plain floats.

    Raises UnknownName for a model or GPU that the catalogue does not hold.
    """
    model = catalog.model(run.model)
    stack = stack_of(stack_for_software(run.software or "", run.year))
    if not overlaps_messages(run.software or ""):
        stack = without_overlap(stack)
    gpu = catalog.accelerator(run.gpu)
    nic = run.network_gbit_per_node * GBIT / run.gpus_per_node if run.network_gbit_per_node else 0
    machine = machine_of(
        gpu, run.precision, node_size=run.gpus_per_node, nic_bytes_per_s=nic
    )
    return Job(
        shape=shape_of(model),
        layout=layout_of(run, model, bool(stack.expert_tp)),
        machine=machine,
        stack=stack,
        seq_len=float(run.seq_len),
        global_batch=float(run.global_batch),
        mtp=float(model.mtp_layers if run.mtp else 0),
        grad_bytes=_DTYPE_BYTES.get(run.grad_accum_dtype or "", -1.0),
    )


def jobs_of(runs: Sequence[PublishedRun], catalog: Catalog) -> Job:
    """Return N runs as one job of `[N]` columns, unknown recompute resolved by memory."""
    job = stack_columns([job_of(run, catalog) for run in runs])
    return with_known_recompute(job, np.array([run.recompute is None for run in runs]))


def with_known_recompute(job: Job, unknown: NDArray[np.bool_]) -> Job:
    """Set unknown recompute to the cheapest mode that fits, or the leanest when none does.

    Each mode costs more time and less memory than the one before it, so the first that fits is the
    cheapest.
    """
    chosen = np.where(unknown, FULL, job.layout.recompute)
    open_rows = unknown.copy()
    for mode in range(int(FULL)):
        trial = replace(job, layout=replace(job.layout, recompute=np.where(open_rows, mode, chosen)))
        fits = memory(trial, operations(trial)).fits & open_rows
        chosen = np.where(fits, float(mode), chosen)
        open_rows &= ~fits
    return replace(job, layout=replace(job.layout, recompute=chosen))
