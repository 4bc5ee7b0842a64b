"""The table of explanations, first part: time, throughput and memory of a step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final, cast

import numpy as np

from crore.cost.collectives import COLLECTIVES, all_to_all_s
from crore.cost.evidence import half_width, interval
from crore.cost.job import Job
from crore.cost.measured import MeasuredPricer
from crore.cost.memory import memory, state_parts, stored, working_bytes
from crore.cost.memory_eager import moments
from crore.cost.memory_experts import sparse_kept
from crore.cost.memory_flight import flights
from crore.cost.memory_layers import attention_kept, dense_kept
from crore.cost.memory_shards import holding
from crore.cost.operations import Operation
from crore.cost.pipeline import waiting
from crore.cost.price import gemm_s, score_slowdown
from crore.cost.recompute_crore import redone
from crore.cost.schedules import in_flight
from crore.cost.shape import active_parameters, forward_flops_per_token, parameters, weights
from crore.cost.step import operations
from crore.cost.step_crore import activation_messages
from crore.cost.step_crore_data import step_sums, weight_messages
from crore.cost.step_data import sharded_messages, step_messages
from crore.cost.step_eager import eager_ends
from crore.cost.step_ends import optimizer_operations, stage_weights
from crore.cost.step_fsdp import eager_updates, fsdp_copies
from crore.cost.step_layers import attention_core
from crore.cost.step_messages import layer_messages, pipeline_messages, uplink_share
from crore.cost.step_time import (
    combine,
    exposed_messages,
    hide,
    host_and_device,
    pipeline_waiting,
    stages,
    step_flops,
    step_time,
)
from crore.cost.stragglers import barrier_slowdown, expected_maximum
from crore.plan.explain.again import Case
from crore.plan.explain.entry import STEP, Entry, Function
from crore.plan.explain.inputs import movers
from crore.plan.explain.parts import memory_items, parameter_items, step_items
from crore.plan.request import Question

AXES: Final = ("pp", "vpp", "dp_replicate", "dp_shard", "cp", "tp", "ep", "etp", "micro_batch",
               "micro_batches")  # fmt: skip
SHAPE: Final = ("layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "topk",
                "moe_ffn", "shared_ffn")  # fmt: skip
CAPACITY: Final = cast(property, Question.memory_bytes)
LIMIT: Final = "request.limits.memory_bytes"
PARTS: Final[Mapping[str, tuple[str, tuple[Function, ...]]]] = {
    "products": ("matrix products of the layers, forward and backward", (gemm_s,)),
    "attention": ("attention kernels, forward and backward", (attention_core,)),
    "memory passes": ("element-wise kernels: norms, activations, casts", (score_slowdown,)),
    "embedding, head, loss": ("tables, head and loss on one rank without a pipeline", (gemm_s,)),
    "recompute": ("forward work done again before the backward pass", (Job.redo_share,)),
    "tp": ("tensor-parallel messages that are waited for", (layer_messages, exposed_messages)),
    "cp": ("context-parallel messages that are waited for", (layer_messages, exposed_messages)),
    "ep": ("expert messages that are waited for", (layer_messages, exposed_messages)),
    "pp": (
        "messages between stages that are waited for",
        (pipeline_messages, exposed_messages, pipeline_waiting, waiting),
    ),
    "offload": ("copies to host memory that are waited for", (hide,)),
    "host": ("the device waits for the host to launch", (host_and_device, stages)),
    "bubble": ("the pipeline fills and drains", (pipeline_waiting, waiting)),
    "dp": (
        "gradients out and weights back, not hidden",
        (step_messages, sharded_messages, hide, uplink_share),
    ),
    "optimizer": ("optimizer step, and the host's work once per step", (optimizer_operations,)),
    "stragglers": ("every rank waits for the slowest", (barrier_slowdown, expected_maximum)),
    "uneven stages": ("the slowest pipeline stage over a full one", (stages,)),
}
PRICED: Final[Mapping[str, tuple[Function, ...]]] = {
    "products": (), "attention": (), "memory passes": (), "embedding, head, loss": (eager_ends,),
    "dp": (fsdp_copies,), "optimizer": (eager_updates,),
}  # fmt: skip
"""Parts that a measured machine prices by its tables, with what lists their operations."""
CRORE: Final[Mapping[str, tuple[Function, ...]]] = {
    **dict.fromkeys(("tp", "cp", "ep"), (activation_messages, exposed_messages)),
    "pp": (activation_messages, exposed_messages, pipeline_waiting, waiting),
    "dp": (weight_messages, step_sums, hide, uplink_share), "recompute": (redone,),
}  # fmt: skip
"""Parts whose operations crore's own stack lists apart."""
HELD: Final[Mapping[str, tuple[str, tuple[Function, ...], str]]] = {
    "weights": ("weights of the fullest rank", (state_parts,), "weight_bytes"),
    "gradients": ("gradient buffers", (state_parts,), "grad_bytes"),
    "optimizer": ("optimizer states", (state_parts,), "optimizer_bytes"),
    "gathered layers": ("layers a fully sharded run has gathered", (state_parts,), ""),
    "activations": ("kept from forward to backward", (stored, in_flight, Job.kept_share), ""),
    "logits": ("kept at the loss", (stored,), "fused_cross_entropy"),
    "working": ("alive inside a layer or at the loss", (working_bytes,), ""),
}
EAGER: Final[Mapping[str, tuple[Function, ...]]] = {
    **dict.fromkeys(("gradients", "gathered layers", "logits", "working"), (moments,)),
    **dict.fromkeys(("weights", "optimizer"), (holding,)),
    "activations": (moments, flights, attention_kept, dense_kept, sparse_kept),
}  # fmt: skip
"""What computes parts of the memory of crore's own stack."""
FORMULAS: Final = {
    "host": "layout.micro_batches * stages.waiting",
    "stragglers": "step_time_s.value - step_time_s.value / slowdown",
    "uneven stages": "(layout.pp > 1) * layout.micro_batches * (stages.slowest - stages.layers)",
}


def step_entries(case: Case) -> Iterator[Entry]:
    """Yield time, throughput and memory."""
    yield from _time(case)
    yield from _between(case)
    yield from _throughput(case)
    yield from _memory(case)


def asked(case: Case) -> tuple[str, ...]:
    """Return the words of what is asked and chosen: sequence, axes beyond one, model shape."""
    return ("seq_len", *_used(case), *(f"model:{name}" for name in _shape(case)))


def _used(case: Case) -> list[str]:
    layout = case.plan.layout
    return [f"layout.{axis}" for axis in AXES if layout[axis] > 1]


def _shape(case: Case) -> list[str]:
    return [name for name in SHAPE if getattr(case.plan.question.model, name)]


def _time(case: Case) -> Iterator[Entry]:
    yield Entry(
        key="step_time_s.value", group="time", unit="s", about="one optimizer step",
        evidence=STEP, functions=(step_time, operations, combine), inputs=asked(case),
        parts="step_split_s.", moved=partial(movers, case),
    )  # fmt: skip
    widths = tuple(f"width:{n}_width" for n in ("base", "expert", "host", "blocking"))
    bounds = ("const:crore.cost.evidence.SCALE_WIDTH_PER_DECADE",
              "const:crore.cost.evidence.UNSEEN_PART_WIDTH")  # fmt: skip
    for end in ("low", "high"):
        yield Entry(
            key=f"step_time_s.{end}", group="time", unit="s", evidence=STEP, listed=False,
            about=f"{end} end of the step time's 80 % interval", functions=(interval, half_width),
            inputs=("step_time_s.value", "step_split_s.host", "island_gpus", *widths, *bounds),
        )  # fmt: skip
    for part in case.plan.step_split_s:
        yield _part(case, part)


def _part(case: Case, part: str) -> Entry:
    about, functions = PARTS.get(part, (part, (combine,)))
    if np.any(case.job.stack.eager):
        functions = CRORE.get(part, functions)
    if case.job.machine.measured is not None and part in PRICED:
        functions = (MeasuredPricer.seconds, *PRICED[part])
    inputs = {
        "host": ("layout.micro_batches", "stages.waiting"),
        "stragglers": ("step_time_s.value", "slowdown", "island_gpus",
                       "const:crore.cost.stragglers.STEP_NOISE"),
        "uneven stages": ("layout.pp", "layout.micro_batches", "stages.slowest", "stages.layers"),
        "bubble": ("stages.whole", "stages.slowest", "layout.pp", "layout.vpp"),
    }.get(part) or asked(case)  # fmt: skip
    return Entry(
        key=f"step_split_s.{part}", group="time", unit="s", about=about, evidence=STEP,
        formula=FORMULAS.get(part, ""), functions=(*functions, *_sent(case, part)), inputs=inputs,
        items=partial(step_items, case, part), moved=partial(movers, case, part),
    )  # fmt: skip


def _sent(case: Case, part: str) -> tuple[Function, ...]:
    """Return how the messages of a part are priced, each kind of collective once."""
    messages = [
        op.collective
        for op in case.ops
        if op.kind == "collective" and part == _part_of(op) and np.any(op.count)
    ]
    return tuple(dict.fromkeys(COLLECTIVES.get(name, all_to_all_s) for name in messages))


def _part_of(op: Operation) -> str:
    return "dp" if op.repeat == "step" or op.axis in ("dp_shard", "dp_replicate") else op.axis


def _between(case: Case) -> Iterator[Entry]:
    """Yield what lies between the file's numbers."""
    words = {"layers": "the fullest stage without the ends", "slowest": "the slowest stage",
             "whole": "all stages one after the other",
             "waiting": "of the fullest stage, waiting for the host"}  # fmt: skip
    for name, about in words.items():
        value = float(np.asarray(getattr(case.stages, name)))
        yield Entry(
            key=f"stages.{name}", group="time", unit="s", about=f"one micro-batch: {about}",
            evidence=STEP, functions=(stages, host_and_device), inputs=asked(case), value=value,
            listed=False,
        )  # fmt: skip
    slow = float(barrier_slowdown(case.job.layout.gpus))
    yield Entry(
        key="slowdown", group="time", unit="ratio", listed=False, value=slow,
        about="a step that waits for all ranks over an average one",
        functions=(barrier_slowdown, expected_maximum),
        inputs=("island_gpus", "const:crore.cost.stragglers.STEP_NOISE"),
    )  # fmt: skip
    for name, flops in zip(("model", "hardware"), step_flops(case.job), strict=True):
        yield Entry(
            key=f"{name}_flops", group="throughput", unit="FLOP", listed=False,
            about=f"{name} FLOPs of a step on one GPU", value=float(np.asarray(flops)),
            functions=(step_flops, forward_flops_per_token), inputs=asked(case),
        )  # fmt: skip
    names = ("rank_elements", "rank_expert_elements")
    for name, elements in zip(names, stage_weights(case.job), strict=True):
        yield Entry(
            key=name, group="memory", unit="weights", listed=False, functions=(stage_weights,),
            about="weights on the fullest rank" + (", of experts" if "expert" in name else ""),
            inputs=asked(case), value=float(np.asarray(elements)),
        )  # fmt: skip


def _throughput(case: Case) -> Iterator[Entry]:
    rate, step = "model_flops_per_s_per_gpu", "step_time_s.value"
    rows = (
        ("tokens_per_s", "tokens/s", "while it makes progress", "global_batch_tokens / " + step,
         ("global_batch_tokens", step)),
        (rate, "FLOP/s", "model FLOP/s, recompute left out", "model_flops / " + step,
         ("model_flops", step)),
        ("mfu", "share", "model FLOP/s over the dense peak of the linear layers' format",
         f"{rate} / linear_peak", (rate, "machine:linear_peak")),
        ("mfu_half", "share", "the same over the 16-bit peak", f"{rate} / half_peak",
         (rate, "machine:half_peak")),
        ("hfu", "share", "with what is recomputed", f"hardware_flops / {step} / linear_peak",
         ("hardware_flops", step, "machine:linear_peak")),
    )  # fmt: skip
    for key, unit, about, formula, inputs in rows:
        yield Entry(
            key=key, group="throughput", unit=unit, about=about, evidence=STEP, formula=formula,
            inputs=inputs,
        )  # fmt: skip
    for key, count in (("parameters", parameters), ("active_parameters", active_parameters)):
        shape = tuple(f"model:{name}" for name in SHAPE)
        yield Entry(
            key=key, group="throughput", unit="weights", about="of the model, from its shape",
            functions=(count, weights), inputs=shape,
            items=partial(parameter_items, case) if key == "parameters" else None,
        )  # fmt: skip


def _memory(case: Case) -> Iterator[Entry]:
    yield Entry(
        key="memory_bytes_per_gpu", group="memory", unit="bytes", about="peak of the worst GPU",
        evidence="closed form; median miss of measured peaks in docs/guide/accuracy.md",
        functions=(memory,), inputs=asked(case), parts="memory_split_bytes.",
    )  # fmt: skip
    limit = (LIMIT,) if case.plan.question.request.limits.memory_bytes else ()
    yield Entry(
        key="memory_capacity_bytes", group="memory", unit="bytes",
        about="of one GPU that a plan may use", functions=(CAPACITY,),
        inputs=("gpu:memory_bytes", *limit),
    )  # fmt: skip
    eager = bool(np.any(case.job.stack.eager))
    for part, (about, functions, trait) in HELD.items():
        states = functions == (state_parts,)
        made_by = EAGER[part] if eager else functions
        own = (f"stack:{trait}",) if trait else ()
        held = ("rank_elements", "rank_expert_elements") if states else asked(case)
        yield Entry(
            key=f"memory_split_bytes.{part}", group="memory", unit="bytes", about=about,
            functions=made_by, inputs=(*held, *own, *(_used(case) if states else ())),
            items=partial(memory_items, case, part),
        )  # fmt: skip
    share, context = (f"crore.cost.memory.{n}" for n in ("FRAGMENTATION", "CONTEXT_BYTES"))
    yield Entry(
        key="memory_split_bytes.fragmentation", group="memory", unit="bytes",
        about="lost in the caching allocator", inputs=(f"const:{share}", "allocated_bytes"),
        formula="FRAGMENTATION * allocated_bytes", evidence="an estimate",
    )  # fmt: skip
    yield Entry(
        key="memory_split_bytes.context", group="memory", unit="bytes", evidence="an estimate",
        about="CUDA context and NCCL buffers", inputs=(f"const:{context}",),
        formula="CONTEXT_BYTES",
    )  # fmt: skip
    allocated = [f"memory_split_bytes.{part}" for part in HELD]
    yield Entry(
        key="allocated_bytes", group="memory", unit="bytes", about="handed out by the allocator",
        formula=" + ".join(allocated), inputs=tuple(allocated), listed=False,
        value=float(np.asarray(case.held.allocated_bytes)),
    )  # fmt: skip
