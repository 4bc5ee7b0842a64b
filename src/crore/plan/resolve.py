"""From the user's words to a question: look names up, derive what was left open."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields

from crore.catalog import Accelerator, Catalog, Cluster, Fabric, load_catalog
from crore.catalog.accelerators import THIS_MACHINE
from crore.cost import parameters, shape_of
from crore.cost.machine import BOX, PRECISIONS, peak
from crore.cost.stack import abilities_of, stack_of
from crore.errors import InputError, UnknownName
from crore.plan.request import (
    BASES,
    LARGEST_WORLD,
    LOST_WORLDS,
    OBJECTIVES,
    Limits,
    PlanRequest,
    Question,
)
from crore.plan.stack_rules import check_question
from crore.units import format_count

DEFAULT_STACK = "megatron-2025"
FLEET_STACK = "crore"
"""The stack that joins worlds by a quorum and islands by outer steps."""
DEFAULT_WAN = "wan-1000km"
DEFAULT_SEQ_LEN = 8192
MOST_PLANS = 20
"""Plans of one answer, and of each GPU count of a frontier."""
TOKENS_PER_PARAMETER = 20
"""Compute-optimal data, rounded (arXiv 2203.15556)."""


def resolve(request: PlanRequest, catalog: Catalog | None = None) -> Question:
    """Look names up, in `catalog` or the shipped one with the request's file; derive the rest.

    Raises UnknownName for a name the catalogue does not hold, InputError for a number out of range.
    """
    catalog = catalog or load_catalog(request.catalog_file)
    for error in number_errors(request):
        raise error
    model = catalog.model(request.model)
    accelerator, gpus, cluster, fabric = _machines(request, catalog)
    shape = shape_of(model)
    derived: list[str] = []
    accelerator = _this_machine(accelerator, gpus, catalog, derived)
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
    stack = _stack_name(request, gpus, derived)
    if not accelerator.nic_bytes_per_s and gpus > 1 and fabric is None and not accelerator.cpu:
        derived.append(f"{BOX} cards a box on PCIe, boxes on 10 Gbit/s Ethernet")
    question = Question(
        request=request, catalog=catalog, model=model, shape=shape, accelerator=accelerator,
        cluster=cluster, fabric=fabric, wan=_wan(request, cluster, catalog), stack_name=stack,
        stack=stack_of(stack), abilities=abilities_of(stack), gpus=gpus,
        sites=request.sites or (cluster.sites if cluster else 0), seq_len=seq_len,
        global_batch=_global_batch(request, seq_len, tokens, gpus, derived), tokens=tokens,
        precision=precision, derived=tuple(derived),
    )  # fmt: skip
    check_question(question)
    _check_world(question)
    _check_tokens(question)
    return question


def _check_tokens(q: Question) -> None:
    """Raise InputError for a run shorter than one step."""
    if q.tokens < q.global_batch * q.seq_len:
        raise InputError(
            f"a run of {format_count(q.tokens)} tokens is shorter than one step of "
            f"{format_count(q.global_batch)} x {q.seq_len:,}: more tokens, or a smaller batch"
        )


def number_errors(request: PlanRequest) -> Iterator[InputError]:
    """Yield what is wrong whatever the model: a count below one, a share above, no objective."""
    names = ("tokens", "seq_len", "global_batch", "global_batch_tokens", "stock_tokens", "top")
    for owner, keys in ((request, names), (request.limits, _LIMITS)):
        for key in keys:
            value = getattr(owner, key)
            if value is not None and not 0 < value < math.inf:
                yield InputError(f"{key} must be above 0, not {value}")
    if request.top > MOST_PLANS:
        yield InputError(
            f"top is at most {MOST_PLANS} plans that really differ, not {request.top:,}"
        )
    if request.gpus < 0 or request.sites < 0:
        yield InputError(f"gpus and sites are at least 1, not {min(request.gpus, request.sites)}")
    yield from _word_errors(request)
    if not 0 <= request.limits.memory_margin < 1:
        yield InputError(
            f"memory_margin is a share from 0 to 1, not {request.limits.memory_margin}"
        )
    if (request.limits.world_gpus or 1) > LARGEST_WORLD:
        yield InputError(
            f"a world of {request.limits.world_gpus:,} ranks is more than torch.distributed "
            f"carries; world_gpus is at most {LARGEST_WORLD:,}"
        )


def _word_errors(request: PlanRequest) -> Iterator[InputError]:
    choices = (
        ("objective", request.objective, OBJECTIVES),
        ("rule for lost worlds", request.lost_worlds, LOST_WORLDS),
        ("money basis", request.basis, ("", *BASES)),
    )
    for kind, word, valid in choices:
        if word not in valid:
            yield UnknownName(kind, word, [known for known in valid if known])


_LIMITS = tuple(f.name for f in fields(Limits) if f.name != "memory_margin")


def _stack_name(request: PlanRequest, gpus: int, derived: list[str]) -> str:
    if request.stack:
        return request.stack
    if gpus <= LARGEST_WORLD:
        return DEFAULT_STACK
    derived.append(f"stack {FLEET_STACK}: more than one world of {LARGEST_WORLD:,} GPUs")
    return FLEET_STACK


def _wan(request: PlanRequest, cluster: Cluster | None, catalog: Catalog) -> Fabric:
    """The network between sites: as named, the cluster's, or the default."""
    wan = catalog.fabric(request.wan or (cluster.wan if cluster else "") or DEFAULT_WAN)
    if not wan.port_bytes_per_s:
        raise InputError(f"{wan.name} joins no sites: choose wan = {DEFAULT_WAN!r}, for example")
    return wan


def _machines(
    request: PlanRequest, catalog: Catalog
) -> tuple[Accelerator, int, Cluster | None, Fabric | None]:
    """Look up what the plan runs on: a cluster brings GPU, count and network with it."""
    cluster = catalog.cluster(request.cluster) if request.cluster else None
    gpu = request.gpu or (cluster.accelerator if cluster else "")
    gpus = request.gpus or (cluster.gpus if cluster else 0) or (request.limits.gpus or 0)
    if not gpu or not gpus:
        raise InputError("a plan needs a GPU and how many of them, or a cluster")
    accelerator = catalog.accelerator(gpu)
    if cluster and accelerator.name != cluster.accelerator:
        raise InputError(
            f"cluster {cluster.name} has {cluster.accelerator}, not {accelerator.name}"
        )
    wanted = request.fabric or (cluster.fabric if cluster else "")
    return accelerator, gpus, cluster, catalog.fabric(wanted) if wanted else None


def _this_machine(
    accelerator: Accelerator, gpus: int, catalog: Catalog, derived: list[str]
) -> Accelerator:
    """Return this machine shared by so many processes, as measured; others as they are."""
    if accelerator.name != THIS_MACHINE:
        return accelerator
    shared = catalog.shared(accelerator, gpus)
    if shared.measured is None:
        derived.append("this machine is not measured (crore calibrate): two cores are estimated")
    else:
        when = shared.measured.date[:10]
        derived.append(f"{shared.title} as measured on {when}: {_sharing(shared, gpus)}")
    return shared


def _sharing(accelerator: Accelerator, gpus: int) -> str:
    """Say which measured setting stands for so many processes."""
    assert accelerator.measured is not None
    setting = accelerator.measured.setting
    processes = f"{gpus} process{'es' * (gpus > 1)}"
    if accelerator.measured.crowding > 1:
        return f"{processes}, extrapolated from {setting.processes}"
    threads = f"{setting.threads} thread{'s' * (setting.threads > 1)}"
    return f"{processes} of {threads}" if accelerator.cpu else processes


def _check_world(q: Question) -> None:
    """Raise InputError when one world cannot be that large, or its fabric does not reach."""
    if q.is_fleet and "quorum" not in q.abilities.recovery:
        raise InputError(
            f"{q.stack_name} runs one world of at most {q.world_limit:,} ranks, not {q.gpus:,} "
            f"GPUs: --stack {FLEET_STACK} joins several worlds"
        )
    if q.fabric and not q.is_fleet and 0 < q.fabric.max_endpoints < q.gpus:
        raise InputError(
            f"fabric {q.fabric.name} reaches {q.fabric.max_endpoints:,} endpoints, not {q.gpus:,}: "
            "choose a larger one (all: crore catalog fabrics)"
        )


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
    and far below this planner's largest questions, so an extrapolation there.
    """
    limit = request.limits.global_batch_tokens
    given = given_batch(request, seq_len)
    if given is not None:
        if limit and given * seq_len > limit:
            raise InputError(
                f"global batch {given * seq_len:,} tokens is over the limit of {limit:,}"
            )
        return given
    wanted = 0.58 * tokens**0.571
    batch = near_batch(min(wanted, limit or wanted) / seq_len, gpus)
    if limit and batch * seq_len > limit:
        if seq_len > limit:
            raise InputError(f"one sequence is {seq_len:,} tokens, over the batch limit {limit:,}")
        batch = 1 << (limit // seq_len).bit_length() - 1
    derived.append(
        f"global batch {batch:,} sequences = {format_count(batch * seq_len)} tokens, near the "
        f"batch law 0.58·D^0.571 (arXiv 2503.04715)"
    )
    return batch


def given_batch(request: PlanRequest, seq_len: int) -> int | None:
    """Sequences per step as the user gave them, in sequences or tokens; None when left open."""
    pinned, given = _pinned(request, "global_batch"), request.global_batch
    if pinned and given and pinned != given:
        raise InputError(f"--global-batch {given} and --fix global_batch={pinned} contradict")
    given = pinned or given
    if given is not None:
        return int(given)
    in_tokens = request.global_batch_tokens
    if in_tokens is None:
        return None
    if in_tokens % seq_len:
        raise InputError(
            f"global_batch_tokens {in_tokens:,} is no multiple of the sequence length {seq_len:,}"
        )
    return in_tokens // seq_len
