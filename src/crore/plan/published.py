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
from crore.cost.stack import overlaps_messages, stack_for_software, stack_of, without_overlap
from crore.cost.step import operations
from crore.errors import InputError, UnknownName, shown
from crore.plan.infeasible import nearest_miss
from crore.plan.record import layout_record
from crore.plan.request import PlanRequest
from crore.plan.resolve import resolve
from crore.plan.search import search

GBIT = 1e9 / 8
NEEDED = ("seq_len", "global_batch", "precision")
"""Without these a run cannot be predicted at all."""
LAYOUT = ("micro_batch", "tp", "pp", "cp", "dp")
"""Without these the fastest layout that fits is taken."""
_DTYPE_BYTES = {"fp16": 2.0, "bf16": 2.0, "fp32": 4.0}


def predictable(run: PublishedRun) -> bool:
    """True when the run says what one step computes."""
    return all(getattr(run, name) is not None for name in NEEDED)


def with_layout(run: PublishedRun, catalog: Catalog) -> PublishedRun:
    """Fill missing layout fields with the fastest layout that fits, the known ones pinned.

    What `layout_of` assumes of every run is assumed here too: nothing in host memory, a distributed
    optimizer, whole recompute modes. Raises InputError when no layout agrees with what the run
    states.
    """
    if all(getattr(run, name) is not None for name in LAYOUT):
        return run
    modes = RECOMPUTE if run.recompute is None else (RECOMPUTE[int(_recompute(run))],)
    tried = [resolve(_request(run, mode), catalog) for mode in modes]
    fits = [(it.run_s, q, it) for q in tried for it in search(q).ranked]
    if fits:
        _, question, best = min(fits, key=lambda one: one[0])
    else:
        misses = [(it.peak_bytes, q, it) for q in tried if (it := nearest_miss(q))]
        if not misses:
            raise InputError("no layout agrees with what it states; check gpus and batch")
        _, question, best = min(misses, key=lambda one: one[0])
    chosen = layout_record(question, best.candidate, 1.0)
    names = ("micro_batch", "tp", "pp", "cp", "dp", "vpp", "ep")
    return replace(run, **{name: chosen[name] for name in names if getattr(run, name) is None})


def _request(run: PublishedRun, mode: str) -> PlanRequest:
    """Return the question which layout a run had, under one recompute mode."""
    known: dict[str, int | str] = {
        name: value
        for name in ("micro_batch", "tp", "pp", "cp", "ep", "vpp")
        if (value := getattr(run, name)) is not None
    }
    known |= {"recompute": mode, "offload": "none", "zero": _zero(run)}
    if run.dp is not None:
        known["dp_shard"] = run.dp
    one_step = int(_count(run.global_batch) * _count(run.seq_len))
    return PlanRequest(
        model=run.model, gpu=run.gpu, gpus=run.gpus, seq_len=run.seq_len, tokens=one_step,
        global_batch=run.global_batch, precision=run.precision, fix=known,
        stack=stack_for_software(run.software or "", run.year),
    )  # fmt: skip


def _zero(run: PublishedRun) -> int:
    """Return the ZeRO stage of a run; absent sharding means a distributed optimizer."""
    return ZERO.index(run.sharding if run.sharding in ZERO else "zero1")


def _count(value: int | None) -> float:
    """A whole number of a run that `with_layout` has completed; 1 when it is still open."""
    return float(value or 1)


def layout_of(run: PublishedRun, model: ModelSpec, expert_tp: bool) -> Layout:
    """Return the layout of one completed run as plain floats.

    An absent `vpp` or `ep` means 1; absent expert tensor parallelism follows the stack; absent
    sharding means a distributed optimizer.
    """
    dp, tp = _count(run.dp), _count(run.tp)
    zero = _zero(run)
    shard = float(run.sharding_group or dp) if zero else 1.0
    etp = run.etp or (tp if expert_tp and model.experts else 1)
    interleaved = _count(run.vpp) > 1
    spread = tp > 1 if run.sequence_parallel is None else run.sequence_parallel
    return Layout(
        pp=_count(run.pp), vpp=_count(run.vpp), cp=_count(run.cp), tp=tp, ep=_count(run.ep),
        etp=float(etp), dp_shard=shard, dp_replicate=dp / shard,
        micro_batch=_count(run.micro_batch),
        schedule=float(schedule_code("interleaved" if interleaved else "1f1b")),
        sequence_parallel=float(spread), recompute=_recompute(run), zero=float(zero),
        tp_overlap=float(bool(run.tp_overlap)), offload_activations=_offloaded(run, model),
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
    return min(float(found[1]) / model.layers, 1.0) if found else 0.0


def job_of(run: PublishedRun, catalog: Catalog) -> Job:
    """Return one completed run as a job of plain floats.

    Raises UnknownName for a model or GPU that the catalogue does not hold.
    """
    model = catalog.model(run.model)
    software = run.software or ""
    stack = stack_of(stack_for_software(software, run.year))
    if not overlaps_messages(software):
        stack = without_overlap(stack)
    node = run.gpus_per_node or 0
    network = run.network_gbit_per_node or 0.0
    machine = machine_of(
        catalog.accelerator(run.gpu), run.precision or "bf16", node_size=node,
        nic_bytes_per_s=network * GBIT / node if node else 0.0,
    )  # fmt: skip
    return Job(
        shape=shape_of(model),
        layout=layout_of(run, model, bool(stack.expert_tp)),
        machine=machine,
        stack=stack,
        seq_len=_count(run.seq_len),
        global_batch=_count(run.global_batch),
        mtp=float(model.mtp_layers if run.mtp else 0),
        grad_bytes=_DTYPE_BYTES.get(run.grad_accum_dtype or "", -1.0),
    )


def named_job(run: PublishedRun, catalog: Catalog) -> Job:
    """Return one predictable run as a job; every error names the run.

    Raises UnknownName for a model or GPU the catalogue does not hold, InputError otherwise.
    """
    try:
        return job_of(with_layout(run, catalog), catalog)
    except UnknownName as error:
        kind = f"{error.kind} in run {shown(run.id)}"
        raise UnknownName(kind, error.name, error.valid, error.listing) from error
    except InputError as error:
        raise InputError(f"run {shown(run.id)}: {error}") from error


def join_jobs(runs: Sequence[PublishedRun], jobs: Sequence[Job]) -> Job:
    """Return N jobs as one of `[N]` columns, unknown recompute resolved."""
    job = stack_columns(list(jobs))
    return with_known_recompute(job, np.array([run.recompute is None for run in runs]))


def jobs_of(runs: Sequence[PublishedRun], catalog: Catalog) -> Job:
    """Return N predictable runs as one job of `[N]` columns, every unknown resolved."""
    return join_jobs(runs, [named_job(run, catalog) for run in runs])


def with_known_recompute(job: Job, unknown: NDArray[np.bool_]) -> Job:
    """Set unknown recompute to the cheapest mode that fits, or the leanest when none does.

    Each mode costs more time than the one before it, so the first that fits is the cheapest.
    """
    chosen = np.where(unknown, FULL, job.layout.recompute)
    open_rows = unknown.copy()
    for mode in range(int(FULL)):
        trial = replace(
            job, layout=replace(job.layout, recompute=np.where(open_rows, mode, chosen))
        )
        fits = np.asarray(memory(trial, operations(trial)).fits, dtype=bool) & open_rows
        chosen = np.where(fits, float(mode), chosen)
        open_rows &= ~fits
    return replace(job, layout=replace(job.layout, recompute=chosen))
