"""A plan as the JSON file's body: plain numbers and words, SI units in the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from crore.cost.fabric import FabricDesign
from crore.cost.layout import RECOMPUTE, ZERO
from crore.cost.schedules import SCHEDULE_NAMES
from crore.plan.candidates import Candidates
from crore.plan.economy import Economy, Spread
from crore.plan.figures import figures_of, figures_record
from crore.plan.request import PlanRequest, Question

if TYPE_CHECKING:
    from crore.plan.answer import Answer, Plan

SCHEMA_VERSION: Final = 1
"""Of crore.plan, the document of `crore plan`."""


def layout_record(q: Question, chosen: Candidates, stage_layers: float) -> dict[str, Any]:
    """Return a single layout with whole numbers and words."""
    record: dict[str, Any] = {}
    for item in fields(chosen.layout):
        value = float(np.asarray(getattr(chosen.layout, item.name)))
        record[item.name] = int(value) if value.is_integer() else value
    record["schedule"] = SCHEDULE_NAMES[record["schedule"]]
    record["recompute"] = RECOMPUTE[record["recompute"]]
    layers = record["recompute_layers"] if record["recompute"] == "full" else 0
    record["recompute_layers"] = int(stage_layers) if layers < 0 else layers
    record["stage_layers"] = int(stage_layers)
    record["zero"] = ZERO[record["zero"]]
    record["sequence_parallel"] = bool(record["sequence_parallel"])
    record["dp"] = record["dp_replicate"] * record["dp_shard"]
    record["micro_batches"] = round(float(chosen.batch) / (record["dp"] * record["micro_batch"]))
    record["precision"] = q.precision
    return record


def plan_record(answer: Answer) -> dict[str, Any]:
    """Return the best plan of an answer with how it was found; the others under `alternatives`."""
    return {
        **whole_record(answer.plan),
        "alternatives": [_summary(plan) for plan in answer.plans[1:]],
        "what_if": [asdict(step) for step in answer.what_if],
        "candidates": answer.candidates,
        "evaluated": answer.evaluated,
        "rejected": dict(answer.rejected),
        "gpu_counts": list(answer.gpu_counts),
        "interrupted": answer.interrupted,
        "search_cpu_s": answer.search_cpu_s,
        "request": request_record(answer.request),
    }


def request_record(request: PlanRequest) -> dict[str, Any]:
    """Return the request with nothing left out: the same again gives the same plan."""
    record = asdict(request)
    record["catalog_file"] = str(record["catalog_file"]) if record["catalog_file"] else None
    record["fix"] = dict(request.fix)
    return record


def whole_record(plan: Plan) -> dict[str, Any]:
    """Return one plan's numbers with everything it takes."""
    return {**one_plan(plan), **figures_record(figures_of(plan))}


def one_plan(plan: Plan) -> dict[str, Any]:
    """Return one plan's numbers."""
    q = plan.question
    rounds = {f.name: float(np.asarray(getattr(plan.rounds, f.name))) for f in fields(plan.rounds)}
    return {
        "verdict": verdict(plan),
        "title": q.request.title,
        "model": q.model.name,
        "parameters": plan.parameters,
        "active_parameters": plan.active_parameters,
        "gpu": q.accelerator.name,
        "gpus": plan.gpus,
        "gpus_available": q.gpus,
        "spares": plan.spares,
        "worlds": plan.worlds,
        "islands": plan.islands,
        "cluster": q.cluster.name if q.cluster else None,
        "stack": q.stack_name,
        "stack_title": q.abilities.title,
        "schedule_runs_on": list(plan.runs_on),
        "layout": dict(plan.layout),
        "fixed": dict(q.request.fix),
        "seq_len": q.seq_len,
        "tokens": q.tokens,
        "global_batch_tokens": plan.global_batch_tokens,
        "step_time_s": asdict(plan.step_time_s),
        "step_split_s": dict(plan.step_split_s),
        "tokens_per_s": plan.tokens_per_s,
        "model_flops_per_s_per_gpu": plan.model_flops_per_s,
        "mfu": plan.mfu,
        "mfu_half": plan.mfu_half,
        "hfu": plan.hfu,
        "memory_bytes_per_gpu": plan.memory_bytes,
        "memory_capacity_bytes": q.memory_bytes,
        "memory_split_bytes": dict(plan.memory_split_bytes),
        "recovery": plan.recovery,
        "goodput": plan.goodput,
        "goodput_by_policy": dict(plan.goodput_by_policy),
        "mtbf_s": plan.mtbf_s,
        "outer_step": rounds if plan.islands > 1 else None,
        "learning_efficiency": _spread(plan.learning),
        "days": asdict(plan.days),
        "economy": _economy(plan.economy),
        "risk": plan.risk,
        "fabric": _fabric(plan),
        "limits": [asdict(limit) for limit in plan.limits],
        "derived": list(q.derived),
        "sources": {
            "model": q.model.provenance.source,
            "gpu": q.accelerator.provenance.source,
            "stack": q.abilities.source,
            "constants": _constants(q),
        },
    }


def _constants(q: Question) -> str:
    measured = q.accelerator.measured
    if measured is not None:
        return f"measured on this machine on {measured.date[:10]} (crore calibrate)"
    return "fitted on 1,062 published runs (docs/guide/accuracy.md)"


def verdict(plan: Plan) -> str:
    """Return the first thing to say: it fits, in how much, for how long, how sure."""
    from crore.units import format_bytes, three_digits

    days, memory = plan.days, format_bytes(plan.memory_bytes)
    return (
        f"FITS  {memory} of {format_bytes(plan.question.memory_bytes)} per GPU; "
        f"{three_digits(days.value)} days ({three_digits(days.low)} to {three_digits(days.high)}, "
        f"80 %); MFU {100 * plan.mfu:.0f} %; {days.evidence}"
    )


def _economy(it: Economy) -> dict[str, Any]:
    return {
        **asdict(it), "usd": it.usd and _spread(it.usd),
        "usd_per_gpu_hour": it.usd_per_gpu_hour and _spread(it.usd_per_gpu_hour),
    }  # fmt: skip


def _spread(bounds: Spread) -> dict[str, float]:
    return dict(zip(("low", "value", "high"), bounds, strict=True))


def _summary(plan: Plan) -> dict[str, Any]:
    """Return what tells an alternative apart."""
    whole = one_plan(plan)
    kept = ("verdict", "gpus", "gpus_available", "worlds", "islands", "layout", "step_time_s",
            "days", "mfu", "memory_bytes_per_gpu", "goodput", "economy", "risk")  # fmt: skip
    return {name: whole[name] for name in kept}


def _fabric(plan: Plan) -> Mapping[str, Any] | None:
    """Return the network: named by the user, or chosen, with its bill of materials."""
    named, design = plan.network.named, plan.network.design
    if named is not None:
        return {
            "name": named.name, "topology": named.topology, "tiers": named.tiers,
            "planes": named.planes, "taper": named.taper, "chosen": False,
            "source": named.provenance.source,
        }  # fmt: skip
    if design is None:
        return None
    others = [
        {**_design(other), "step_time_s": step_s} for other, step_s in plan.network.alternatives
    ]
    bill = [asdict(item) for item in design.bill_of_materials]
    return {**_design(design), "chosen": True, "bill_of_materials": bill, "alternatives": others}


def _design(design: FabricDesign) -> dict[str, Any]:
    kept = ("topology", "switch", "tiers", "planes", "rails", "taper", "radix", "endpoints",
            "max_endpoints", "switches", "links", "optic_ends", "diameter", "bisection",
            "power_w")  # fmt: skip
    return {
        **{name: getattr(design, name) for name in kept},
        "price_usd": asdict(design.price_usd),
    }
