"""From a request to a plan: resolve, search, price the winner, say how sure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from crore.cost import Layout, Shape, active_parameters, evidence_of, interval, parameters
from crore.cost.evidence import Evidence, calibrated_part
from crore.cost.goodput import DISK, PEER_MEMORY, mean_time_between_failures_s, restart_goodput
from crore.cost.layout import RECOMPUTE, ZERO
from crore.cost.schedules import SCHEDULE_NAMES, SCHEDULES
from crore.errors import Infeasible
from crore.plan.request import PlanRequest, Question, near_batch, resolve
from crore.plan.search import Found, price, search
from crore.plan.space import apply_rules, enumerate_layouts
from crore.units import format_bytes

SCHEMA_VERSION = 1
BYTES_PER_PARAMETER = 16
"""Least state of mixed-precision Adam, for the hint how many GPUs the states alone need."""

BATCH_DOUBLINGS = 14
"""How far above the derived batch a batch that divides is looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One layout of one question with everything it takes; plain numbers, SI units."""

    question: Question
    layout: dict[str, Any]
    runs_on: tuple[str, ...]
    """Who can execute the pipeline schedule."""
    evidence: Evidence
    step_time_s: float
    step_time_low_s: float
    step_time_high_s: float
    step_parts_s: dict[str, float]
    memory_bytes: float
    memory_capacity_bytes: float
    memory_parts_bytes: dict[str, float]
    model_flops_per_s: float
    """Per GPU, recompute left out."""
    mfu: float
    """Model FLOP/s over the dense peak of the linear layers' format."""
    mfu_half: float
    """The same over the 16-bit peak, as most papers print it."""
    hfu: float
    tokens_per_s: float
    run_s: float
    """Seconds to train on all tokens, without failures."""
    mtbf_s: float
    goodput_disk: float
    goodput_peer: float
    parameters: float
    active_parameters: float
    tight: bool
    """It fits, but with less to spare than predicted peaks usually miss by."""
    candidates: int
    priced: int
    rejected: dict[str, int] = field(default_factory=dict)


def make_plan(request: PlanRequest) -> Plan:
    """Return the fastest plan that fits.

    Raises UnknownName and InputError for bad input; Infeasible when nothing fits, with the nearest
    miss and what would make it fit.
    """
    question = resolve(request)
    found = search(question)
    if found.layout is not None and not found.fits and "offload" not in request.fix:
        question, found = _with_offload(request, question, found)
    if found.layout is None:
        raise Infeasible(_no_layout(question, found))
    plan = _describe(question, found, found.layout)
    if not found.fits:
        raise Infeasible(_nearest_miss(plan))
    return plan


def _with_offload(request: PlanRequest, question: Question, found: Found) -> tuple[Question, Found]:
    """Try again with optimizer states in host memory; keep the first answer if that fails too."""
    note = "optimizer states in host memory: nothing fits otherwise"
    again = resolve(replace(request, fix={**request.fix, "offload": "optimizer"}))
    again = replace(again, derived=(*again.derived, note))
    retried = search(again)
    return (again, retried) if retried.fits else (question, found)


def _describe(q: Question, found: Found, layout: Layout) -> Plan:
    job, time, held = price(q, layout)
    low, high = interval(job, time, calibrated_part(q.accelerator.name))
    step_s = float(time.step_s)
    tokens_per_s = q.global_batch * q.seq_len / step_s
    steps = max(1.0, q.tokens / (q.global_batch * q.seq_len))
    model_rate = float(time.model_flops) / step_s
    linear = float(job.machine.linear_peak)
    schedule = SCHEDULES[int(layout.schedule)]
    return Plan(
        question=q,
        layout=layout_record(layout),
        runs_on=schedule.runs_on,
        evidence=evidence_of(q.accelerator.name, q.gpus, q.precision, schedule.name, q.seq_len),
        step_time_s=step_s,
        step_time_low_s=float(low),
        step_time_high_s=float(high),
        step_parts_s={k: float(v) for k, v in time.parts.items()},
        memory_bytes=float(held.peak_bytes),
        memory_capacity_bytes=q.accelerator.memory_bytes,
        memory_parts_bytes={k: float(v) for k, v in held.parts.items()},
        model_flops_per_s=model_rate,
        mfu=model_rate / linear,
        mfu_half=model_rate / float(job.machine.half_peak),
        hfu=float(time.hardware_flops) / step_s / linear,
        tokens_per_s=tokens_per_s,
        run_s=steps * step_s,
        mtbf_s=float(mean_time_between_failures_s(q.gpus)),
        goodput_disk=float(restart_goodput(q.gpus, *DISK)),
        goodput_peer=float(restart_goodput(q.gpus, *PEER_MEMORY)),
        parameters=float(parameters(q.shape)),
        active_parameters=float(active_parameters(q.shape)),
        tight=found.tight,
        candidates=found.candidates,
        priced=found.priced,
        rejected=found.rejected,
    )


def layout_record(layout: Layout) -> dict[str, Any]:
    """Return a single layout with whole numbers and words."""
    record: dict[str, Any] = {}
    for item in fields(layout):
        value = float(np.asarray(getattr(layout, item.name)))
        record[item.name] = int(value) if value.is_integer() else value
    record["schedule"] = SCHEDULE_NAMES[record["schedule"]]
    record["recompute"] = RECOMPUTE[record["recompute"]]
    record["zero"] = ZERO[record["zero"]]
    record["sequence_parallel"] = bool(record["sequence_parallel"])
    record["dp"] = record["dp_replicate"] * record["dp_shard"]
    return record


def _no_layout(q: Question, found: Found) -> str:
    """Name the rule that left nothing, and a batch that would do where that is in the way."""
    pins = ",".join(f"{key}={value}" for key, value in q.request.fix.items())
    pinned = f" with --fix {pins}"[:60] if pins else ""
    where = f"no layout of {q.model.name} on {q.gpus:,} x {q.accelerator.name}{pinned}: "
    batch = _batch_that_works(q) if "batch" in found.binding else 0
    if batch:
        return (
            f"{where}global batch {q.global_batch:,} does not divide; --global-batch {batch} does"
        )
    return f"{where}{found.binding}; change --gpus, --global-batch ({q.global_batch:,}) or --fix"


def _batch_that_works(q: Question) -> int:
    """Return the next batch for which some layout obeys the rules, 0 when none is near."""
    for factor in range(BATCH_DOUBLINGS):
        batch = near_batch(q.global_batch * 2.0**factor, q.gpus)
        space = enumerate_layouts(replace(q, global_batch=batch))
        if apply_rules(replace(q, global_batch=batch), space.layout)[0].any():
            return batch
    return 0


def _nearest_miss(plan: Plan) -> str:
    q, layout = plan.question, plan.layout
    short = plan.memory_bytes - plan.memory_capacity_bytes
    largest = max(plan.memory_parts_bytes, key=lambda name: plan.memory_parts_bytes[name])
    axes = ",".join(f"{k}={layout[k]}" for k in ("tp", "pp", "cp", "ep") if layout[k] > 1)
    least = _least_gpus(q.shape, plan.memory_capacity_bytes)
    hint = f"; the states alone need {least:,} GPUs" if least > q.gpus else ""
    return (
        f"does not fit: {q.model.name} on {q.gpus:,} x {q.accelerator.name} needs at least "
        f"{format_bytes(plan.memory_bytes)} of {format_bytes(plan.memory_capacity_bytes)} per GPU, "
        f"{format_bytes(short)} over ({axes or 'one rank'}, {layout['zero']}, recompute "
        f"{layout['recompute']}; most of it {largest}){hint}"
    )


def _least_gpus(shape: Shape, capacity: float) -> int:
    return max(1, int(np.ceil(float(parameters(shape)) * BYTES_PER_PARAMETER / capacity)))


def plan_record(plan: Plan) -> dict[str, Any]:
    """Return the plan as the JSON file's body."""
    q = plan.question
    skip = {"question", "runs_on"}
    body = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in skip}
    return {
        "title": q.request.title,
        "model": q.model.name,
        "gpu": q.accelerator.name,
        "gpus": q.gpus,
        "cluster": q.cluster.name if q.cluster else None,
        "fabric": q.fabric.name if q.fabric else None,
        "precision": q.precision,
        "stack": q.request.stack,
        "seq_len": q.seq_len,
        "global_batch": q.global_batch,
        "tokens": q.tokens,
        "fixed": dict(q.request.fix),
        "derived": list(q.derived),
        "fits": True,
        "schedule_runs_on": list(plan.runs_on),
        **body,
        "sources": {
            "model": q.model.provenance.source,
            "gpu": q.accelerator.provenance.source,
            "constants": "fitted on 1,062 published runs (docs/guide/accuracy.md)",
        },
    }
