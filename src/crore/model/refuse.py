"""Combinations that torch, or crore's use of it, cannot run: refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.model.float8 import MULTIPLE
from crore.model.split import V_SHAPED, Split, needs_wrapping
from crore.model.supported import check_buildable

SCHEDULES = ("gpipe", "1f1b", "interleaved", *V_SHAPED)
PRECISIONS = ("fp32", "bf16", "fp8")


def check_runnable(
    spec: ModelSpec, split: Split, *, seq_len: int, global_batch: int, device: str, compiled: bool,
    mtp: bool = False, ring: bool = False,
) -> None:  # fmt: skip
    """Raise InputError for the first rule that a plan breaks, with the reason and the numbers."""
    check_buildable(spec)
    split.micro_batches(global_batch)
    rules = (*_degrees(spec, split, seq_len), *_features(spec, split, global_batch),
             *(_compiled(split) if compiled else ()), *_formats(split, seq_len),
             *_options(spec, split, device, mtp, ring))  # fmt: skip
    for broken, reason in rules:
        if broken:
            raise InputError(f"{spec.name} with {split.words()}: {reason}")


def _degrees(spec: ModelSpec, split: Split, seq_len: int) -> Iterator[tuple[bool, str]]:
    tp, cp, ep = split.tp, split.cp, split.ep
    latent = spec.mla is not None
    yield spec.heads % tp > 0, f"tp {tp} does not divide {spec.heads} heads"
    yield (
        not latent and spec.kv_heads % tp > 0,
        f"tp {tp} does not divide {spec.kv_heads} key-value heads",
    )
    yield spec.ffn % tp > 0, f"tp {tp} does not divide the feed-forward width {spec.ffn}"
    yield spec.shared_ffn % tp > 0, f"tp {tp} does not divide shared experts {spec.shared_ffn} wide"
    yield spec.vocab % tp > 0, f"tp {tp} does not divide the vocabulary of {spec.vocab:,}"
    yield (spec.heads // tp) % cp > 0, f"cp {cp} does not divide {spec.heads // tp} heads of a rank"
    yield seq_len % cp > 0, f"cp {cp} does not divide {seq_len} tokens"
    yield (
        split.sequence_parallel and (seq_len // cp) % tp > 0,
        f"tp {tp} does not divide {seq_len // cp} tokens of a sequence",
    )
    yield split.stages > spec.layers, f"{split.stages} stages, {spec.layers} layers"
    yield spec.experts > 0 and spec.experts % ep > 0, f"ep {ep} does not divide {spec.experts}"
    yield ep > 1 and not spec.experts, "ep without experts"
    yield (
        (split.fsdp * tp) % ep > 0,
        f"ep {ep} does not divide {split.fsdp * tp} ranks of a replica",
    )


def _features(spec: ModelSpec, split: Split, global_batch: int) -> Iterator[tuple[bool, str]]:
    zero_bubble = split.pp > 1 and split.schedule in V_SHAPED
    several, passes = split.pp > 1, split.micro_batches(global_batch)
    yield split.etp > 1, "tensor parallelism inside an expert is not built; use etp 1"
    yield (
        several and split.schedule not in SCHEDULES,
        f"schedule {split.schedule}; crore runs {', '.join(SCHEDULES)}",
    )
    yield (
        split.chunks > 1 and split.schedule in ("gpipe", "1f1b"),
        f"schedule {split.schedule} runs one chunk per rank, not {split.vpp}; use interleaved",
    )
    yield (
        several and split.schedule == "interleaved" and passes % split.pp > 0,
        f"interleaving needs micro-batches in multiples of {split.pp}, not {passes}",
    )
    yield (
        several and passes < split.stages and split.schedule in ("1f1b", *V_SHAPED),
        f"{passes} micro-batches leave {split.stages} stages idle; give at least as many",
    )
    yield (
        spec.experts > 0 and split.tp > 1 and not split.sequence_parallel,
        "experts with tp need sequence parallelism, or every rank would route the same tokens",
    )
    yield (
        spec.experts > 0 and spec.parallel_block and split.tp > 1,
        "experts in a parallel block with tp are not built",
    )
    yield (
        zero_bubble and spec.tied_embeddings,
        "zb-v puts both ends on one rank, where a tied table would be two; use 1f1b",
    )
    yield (
        zero_bubble and split.zero == 3 and any(needs_wrapping(split, experts=spec.experts > 0)),
        "zb-v takes weight gradients later, when zero 3 has let the weights go; use zero 2",
    )
    yield (
        zero_bubble and split.recompute != "none",
        "zb-v goes back once for each weight, and would recompute as often; recompute none",
    )


def _compiled(split: Split) -> Iterator[tuple[bool, str]]:
    yield (
        split.pp > 1 and split.schedule in V_SHAPED,
        "torch.compile with zb-v fails in torch 2.13 (pytorch#161904); leave --compile out",
    )
    yield (
        split.ep > 1,
        "torch.compile hands products of experts cut by ep whole DTensors; leave --compile out",
    )
    yield (
        split.tp > 1 and split.recompute == "full",
        "torch.compile with tp and full recompute fails in torch 2.13; recompute light",
    )
    yield (
        split.tp > 1 and split.dp_replicate > 1,
        "torch.compile with tp and dp_replicate is not yet checked; leave --compile out",
    )


def _formats(split: Split, seq_len: int) -> Iterator[tuple[bool, str]]:
    tokens = split.micro_batch * (seq_len // split.cp)
    yield (
        split.precision not in PRECISIONS,
        f"precision {split.precision}; crore trains in {', '.join(PRECISIONS)}",
    )
    yield (
        split.precision == "fp8" and tokens % MULTIPLE > 0,
        f"fp8 takes tokens by {MULTIPLE}, a pass of a rank has {tokens}",
    )


def _options(
    spec: ModelSpec, split: Split, device: str, mtp: bool, ring: bool
) -> Iterator[tuple[bool, str]]:
    yield (
        mtp and max(split.tp, split.cp, split.pp) > 1,
        "multi-token prediction is not cut by tp, cp or pp; leave --mtp out, or spread by dp alone",
    )
    yield (
        ring and split.cp > 1 and device == "cpu",
        "torch has no ring attention for a CPU; leave --ring out",
    )
    yield (
        ring and split.cp > 1 and (spec.window > 0 or spec.position == "alibi"),
        "a ring knows no mask but the causal one; leave --ring out",
    )
