"""From a plan and the user's options to a job: what is left open is derived, and said."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from crore.catalog import Catalog
from crore.catalog.types import ModelSpec
from crore.cost import parameters
from crore.cost.machine import peak
from crore.cost.shape import forward_flops_per_token, shape_of, weights
from crore.errors import InputError
from crore.model.refuse import check_runnable
from crore.model.split import Split, world_split
from crore.train.adamw import OptimSettings
from crore.train.data import parse_sources
from crore.train.health import Limits
from crore.train.islands.settings import Outer
from crore.train.job import Build, Every, Job, Text
from crore.train.meters import prediction_of
from crore.train.schedule import batch, first_sample, parse_ramp, parse_schedule
from crore.units import format_count

THIS_MACHINE: Final = "this-machine"
"""The part that `crore calibrate` measures."""
LARGEST_LR: Final = 1e-2
LEAST_EVERY: Final = 10
"""Steps between two evaluations or checkpoints, where the user says nothing: what is written beside
a step slows it, and a short run would do little else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the user asks of a run; None and 0 leave it open."""

    folder: Path
    cache: Path
    data: str = "python"
    """Sources as `parse_sources` reads them."""
    tokenizer: Path | None = None
    device: str = ""
    """`cpu` or `cuda`; CUDA where there is a card."""
    steps: int | None = None
    optimizer: str = "adamw"
    lr: float | None = None
    schedule: str = "wsd"
    warmup: int | None = None
    ramp: str = ""
    weight_decay: float = 0.1
    clip: float = 1.0
    z_weight: float = 0.0
    router_z_weight: float = 1e-3
    """Used where there are experts (ST-MoE, arXiv 2202.08906: 1e-3)."""
    seed: int = 0
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    sample_every: int | None = None
    keep: int = 3
    prompt: str = "Return the "
    compiled: bool = False
    mtp: bool = False
    ring: bool = False
    profile: bool = False
    loggers: tuple[str, ...] = ()
    quiet: bool = False
    hang_s: float = 600.0
    threads: int = 0
    command: str = ""
    outer: Mapping[str, float] = field(default_factory=dict)
    """Of the outer step: fragments, overlap, lr, momentum, mixing, and what the plan says."""


def job_of(
    plan: Mapping[str, Any], spec: ModelSpec, catalog: Catalog, options: Options
) -> tuple[Job, list[str]]:
    """Return the job that carries out a plan (the body of plan.json), and what was derived.

    Raises InputError for a fleet whose islands do not divide it, and for what this trainer cannot
    run.
    """
    split = world_split(plan)
    seq_len = int(plan["seq_len"])
    worlds, islands = int(plan["worlds"]), int(plan["islands"])
    sequences = int(plan["global_batch_tokens"]) // seq_len
    _check_fleet(worlds, islands, sequences)
    device = options.device or _device()
    check_runnable(
        spec, split, seq_len=seq_len, global_batch=_of_a_world(sequences, worlds, split),
        device=device, compiled=options.compiled, mtp=options.mtp, ring=options.ring,
    )  # fmt: skip
    derived: list[str] = []
    ramp = parse_ramp(options.ramp, sequences, islands * split.dp * split.micro_batch)
    steps = options.steps or _steps(ramp, int(plan["tokens"]), seq_len, derived)
    tokens = first_sample(ramp, steps) * seq_len
    schedule = parse_schedule(options.schedule, steps, warmup_steps=options.warmup)
    derived.append(
        f"schedule {options.schedule}: of {steps:,} steps {schedule.warmup_steps:,} of warm-up"
        + (f", {schedule.decay_steps:,} of decay" if schedule.decay_steps else ", then decay")
    )
    told = _is_of_this_machine(plan, device)
    shape = shape_of(spec)
    mtp = float(spec.mtp_layers if options.mtp else 0)
    job = Job(
        spec=spec, split=split, seq_len=seq_len, ramp=ramp, schedule=schedule,
        optimizer=options.optimizer,
        optim=OptimSettings(
            lr=options.lr or _learning_rate(spec, tokens, derived),
            weight_decay=options.weight_decay,
        ),
        clip=options.clip,
        text=Text(
            sources=parse_sources(options.data), cache=options.cache,
            tokenizer=options.tokenizer, prompt=options.prompt,
            evaluation_rows=max(sequences, 64 // sequences * sequences),
        ),
        folder=options.folder, device=device, every=_every(options, steps), seed=options.seed,
        keep=options.keep,
        build=Build(
            compiled=options.compiled, mtp=options.mtp, ring=options.ring,
            z_weight=options.z_weight,
            router_z_weight=options.router_z_weight if spec.experts else 0.0,
        ),
        health=Limits(), hang_s=options.hang_s, threads=options.threads,
        profile=options.profile, loggers=options.loggers, quiet=options.quiet,
        command=options.command, prediction=prediction_of(plan) if told else None,
        flops_per_token=3 * float(forward_flops_per_token(shape, seq_len, mtp)),
        peak_flops=peak(catalog.accelerator(plan["gpu"]), split.precision) if told else None,
        parameters=int(parameters(shape)),
        outer=_outer(plan["outer_step"], options.outer) if islands > 1 else None,
    )  # fmt: skip
    return job, derived


def _check_fleet(worlds: int, islands: int, sequences: int) -> None:
    if worlds % islands or sequences % islands:
        raise InputError(
            f"{islands} islands must divide the {worlds:,} worlds and the {sequences:,} sequences "
            "of a step: plan with --fix islands=K or --global-batch B that they do"
        )


def _of_a_world(sequences: int, worlds: int, split: Split) -> int:
    """Return the sequences that a world runs in a step, when all are there."""
    if worlds == 1:
        return sequences
    unit = split.dp * split.micro_batch * split.pp
    return max(math.ceil(sequences / worlds / unit), 1) * unit


def _outer(planned: Mapping[str, Any], asked: Mapping[str, float]) -> Outer:
    """Return the outer step of a plan, what the user asks laid over it."""
    given = {"interval": planned["interval"], "bits": planned["bits"], **asked}
    whole = ("interval", "bits", "fragments", "overlap")
    fields: dict[str, Any] = {k: int(v) if k in whole else v for k, v in given.items()}
    return Outer(**fields, nesterov=bool(given.get("momentum", 1)))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _is_of_this_machine(plan: Mapping[str, Any], device: str) -> bool:
    """Return whether the plan's prediction is about the machine that runs it."""
    return device == "cuda" or str(plan["gpu"]) == THIS_MACHINE


def _steps(ramp: Any, tokens: int, seq_len: int, derived: list[str]) -> int:
    """Return the fewest steps that see `tokens`."""
    samples = math.ceil(tokens / seq_len)
    low, high = 0, max(samples, 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if first_sample(ramp, middle) < samples else (low, middle)
    steps = max(low, 1)
    derived.append(
        f"{steps:,} steps of {format_count(batch(ramp, steps) * seq_len)} tokens: "
        f"{format_count(tokens)} tokens"
    )
    return steps


def _learning_rate(spec: ModelSpec, tokens: int, derived: list[str]) -> float:
    """Return StepLaw's optimum `1.79 · N^-0.713 · D^0.307` (arXiv 2503.04715), at most 0.01.

    N are parameters without tables, D tokens. It was fitted from 60M parameters on; below, an
    extrapolation.
    """
    shape = shape_of(spec)
    held = weights(shape)
    plain = float(parameters(shape) - held.embedding - held.head)
    optimum = 1.79 * plain**-0.713 * tokens**0.307
    lr = float(f"{min(optimum, LARGEST_LR):.2g}")
    derived.append(f"learning rate {lr:g}, near the law 1.79·N^-0.713·D^0.307 (arXiv 2503.04715)")
    return lr


def _every(options: Options, steps: int) -> Every:
    def given(value: int | None, parts: int, least: int) -> int:
        return max(steps // parts, least) if value is None else value

    return Every(
        evaluation=given(options.evaluate_every, 10, LEAST_EVERY),
        checkpoint=given(options.checkpoint_every, 10, LEAST_EVERY),
        sample=given(options.sample_every, 4, 1),
    )


SMALL_HIDDEN, SMALL_LAYERS, SMALL_HEADS = 128, 4, 4


def scaled_down(spec: ModelSpec) -> ModelSpec:
    """Return a shape of the same architecture that a CPU trains: layers and vocabulary stay.

    Widths and layers shrink; positions, norms, gates, biases, ties, experts' routing and the size
    of the tokenizer stay.
    """
    head = SMALL_HIDDEN // SMALL_HEADS
    group = max(spec.heads // spec.kv_heads, 1)
    experts = min(spec.experts, 8)
    return replace(
        spec, name=f"{spec.name}-small", layers=min(spec.layers, SMALL_LAYERS),
        hidden=SMALL_HIDDEN, heads=SMALL_HEADS, kv_heads=max(SMALL_HEADS // group, 1),
        head_dim=head, ffn=_scaled(spec.ffn, spec.hidden), experts=experts,
        topk=min(spec.topk, experts), moe_ffn=_scaled(spec.moe_ffn, spec.hidden),
        shared_ffn=_scaled(spec.shared_ffn, spec.hidden),
        first_dense=min(spec.first_dense, 1), window=min(spec.window, 64),
        mla=spec.mla and replace(
            spec.mla, q_lora=spec.mla.q_lora and 64, kv_lora=32, qk_nope=head, qk_rope=16, v=head
        ),
    )  # fmt: skip


def _scaled(width: int, hidden: int) -> int:
    """Return a width in the same proportion to the hidden size, a multiple of 16."""
    return round(width * SMALL_HIDDEN / hidden / 16) * 16
