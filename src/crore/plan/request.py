"""What is asked, and what follows from it when the user leaves it open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crore.catalog import Accelerator, Catalog, Cluster, Fabric, ModelSpec, load_catalog
from crore.cost import Shape, parameters, shape_of
from crore.cost.machine import BOX, PRECISIONS, peak
from crore.cost.stack import Stack, stack_of
from crore.errors import InputError, UnknownName
from crore.units import format_count

DEFAULT_STACK = "megatron-2025"
DEFAULT_SEQ_LEN = 8192
TOKENS_PER_PARAMETER = 20
"""Compute-optimal data, rounded (arXiv 2203.15556)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRequest:
    """The user's words: flags or a mission's keys."""

    model: str
    gpu: str = ""
    gpus: int = 0
    cluster: str = ""
    """A machine of the catalogue: stands for GPU, count, network and nodes."""
    fabric: str = ""
    """The network between servers; the GPU's own NIC on a flat network when empty."""
    tokens: int | None = None
    """Tokens to train on."""
    seq_len: int | None = None
    """Tokens per sequence."""
    global_batch: int | None = None
    """Sequences per optimizer step."""
    global_batch_tokens: int | None = None
    """The same in tokens."""
    precision: str | None = None
    stack: str = DEFAULT_STACK
    fix: Mapping[str, int | str] = field(default_factory=dict)
    """Layout keys that are pinned."""
    catalog_file: Path | None = None
    title: str = ""
    note: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The request with every name looked up and every open number derived."""

    request: PlanRequest
    model: ModelSpec
    shape: Shape
    accelerator: Accelerator
    cluster: Cluster | None
    fabric: Fabric | None
    stack: Stack
    gpus: int
    seq_len: int
    global_batch: int
    tokens: int
    precision: str
    derived: tuple[str, ...]
    """One sentence per derived number, for the user to check."""


def resolve(request: PlanRequest, catalog: Catalog | None = None) -> Question:
    """Look names up, in `catalog` or the shipped one with the request's file; derive the rest.

    Raises UnknownName for a name the catalogue does not hold, InputError for a number out of range.
    """
    catalog = catalog or load_catalog(request.catalog_file)
    model = catalog.model(request.model)
    accelerator, gpus, cluster, fabric = _machines(request, catalog)
    shape = shape_of(model)
    derived: list[str] = []
    precision = _precision(request, accelerator, derived)
    peak(accelerator, precision)
    seq_len = _pinned(request, "seq_len") or request.seq_len
    if seq_len is None:
        seq_len = min(DEFAULT_SEQ_LEN, model.max_positions or DEFAULT_SEQ_LEN)
        derived.append(f"sequence length {seq_len:,} (default)")
    if 0 < model.max_positions < seq_len:
        raise InputError(
            f"{model.name} has {model.max_positions:,} learned positions, fewer than the "
            f"sequence length {seq_len:,}"
        )
    tokens = request.tokens
    if tokens is None:
        tokens = round(TOKENS_PER_PARAMETER * float(parameters(shape)))
        derived.append(f"{format_count(tokens)} tokens = 20 per parameter (arXiv 2203.15556)")
    batch = _global_batch(request, seq_len, tokens, gpus, derived)
    if not accelerator.nic_bytes_per_s and gpus > 1 and fabric is None:
        derived.append(f"{BOX} cards a box on PCIe, boxes on 10 Gbit/s Ethernet")
    _check_network(fabric, cluster, gpus, derived)
    for name, value in (("gpus", gpus), ("seq_len", seq_len), ("tokens", tokens)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    return Question(
        request=request, model=model, shape=shape, accelerator=accelerator, cluster=cluster,
        fabric=fabric, stack=stack_of(request.stack), gpus=gpus, seq_len=seq_len,
        global_batch=batch, tokens=tokens, precision=precision,
        derived=tuple(derived),
    )  # fmt: skip


def _machines(
    request: PlanRequest, catalog: Catalog
) -> tuple[Accelerator, int, Cluster | None, Fabric | None]:
    """Look up what the plan runs on: a cluster brings GPU, count and network with it."""
    cluster = catalog.cluster(request.cluster) if request.cluster else None
    gpu = request.gpu or (cluster.accelerator if cluster else "")
    gpus = request.gpus or (cluster.gpus if cluster else 0)
    if not gpu or not gpus:
        raise InputError("a plan needs a GPU and how many of them, or a cluster")
    accelerator = catalog.accelerator(gpu)
    if cluster and accelerator.name != cluster.accelerator:
        raise InputError(
            f"cluster {cluster.name} has {cluster.accelerator}, not {accelerator.name}"
        )
    wanted = request.fabric or (cluster.fabric if cluster else "")
    fabric = catalog.fabric(wanted) if wanted else None
    return accelerator, gpus, cluster, fabric


def _check_network(
    fabric: Fabric | None, cluster: Cluster | None, gpus: int, derived: list[str]
) -> None:
    """Raise InputError when the fabric does not reach all GPUs; say what is left out of it."""
    if fabric and 0 < fabric.max_endpoints < gpus:
        raise InputError(
            f"fabric {fabric.name} reaches {fabric.max_endpoints:,} endpoints, not {gpus:,}: "
            "choose a larger one (all: crore catalog fabrics)"
        )
    if fabric and fabric.taper < 1:
        derived.append(f"the {1 / fabric.taper:.0f}:1 taper of {fabric.name} is not priced")
    if cluster and cluster.sites > 1:
        derived.append(f"{cluster.sites} sites as one: the network between them is not priced")


def near_batch(wanted: float, gpus: int) -> int:
    """Return the batch nearest to `wanted` that data-parallel ranks of any power of two divide.

    It is a power of two times the odd part of the GPU count, which no tensor or pipeline degree
    takes away; a plain power of two where that part alone exceeds what is wanted.
    """
    odd = gpus
    while odd % 2 == 0:
        odd //= 2
    unit = odd if odd <= wanted * math.sqrt(2) else 1
    return unit << max(0, round(math.log2(max(wanted / unit, 1.0))))


def _pinned(request: PlanRequest, key: str) -> int | None:
    value = request.fix.get(key)
    return int(value) if value is not None else None


def _precision(request: PlanRequest, accelerator: Accelerator, derived: list[str]) -> str:
    pinned, given = request.fix.get("precision"), request.precision
    if pinned and given and pinned != given:
        raise InputError(f"--precision {given} and --fix precision={pinned} contradict each other")
    chosen = str(pinned or given or "")
    if chosen:
        if chosen not in PRECISIONS:
            raise UnknownName("precision", chosen, PRECISIONS)
        return chosen
    for precision in ("bf16", "fp16", "fp32"):
        if accelerator.peak_flops.get(precision):
            derived.append(f"precision {precision} (the widest 16-bit format of the part)")
            return precision
    raise InputError(f"{accelerator.name} has no training format in the catalogue")


def _global_batch(
    request: PlanRequest, seq_len: int, tokens: int, gpus: int, derived: list[str]
) -> int:
    """Sequences per step: as given, or near a batch law with the GPU count's odd factors in it.

    The law is StepLaw's optimum `0.58·D^0.571` tokens (arXiv 2503.04715): fitted below 1e11 tokens
    per step and far below this planner's largest questions, so an extrapolation there.
    """
    pinned, given = _pinned(request, "global_batch"), request.global_batch
    if pinned and given and pinned != given:
        raise InputError(f"--global-batch {given} and --fix global_batch={pinned} contradict")
    given = pinned or given
    if given is not None:
        return int(given)
    if request.global_batch_tokens is not None:
        if request.global_batch_tokens % seq_len:
            raise InputError(
                f"global_batch_tokens {request.global_batch_tokens:,} is no multiple of the "
                f"sequence length {seq_len:,}"
            )
        return request.global_batch_tokens // seq_len
    batch = near_batch(0.58 * tokens**0.571 / seq_len, gpus)
    derived.append(
        f"global batch {batch:,} sequences = {format_count(batch * seq_len)} tokens, near the "
        f"batch law 0.58·D^0.571 (arXiv 2503.04715)"
    )
    return batch
