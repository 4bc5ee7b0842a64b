"""The same plan at a size this machine runs, on real processes and on fake ones side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.model.refuse import check_runnable
from crore.model.split import Split
from crore.rehearse.fake import rehearse
from crore.rehearse.real import run
from crore.rehearse.trace import Trace, Work
from crore.units import format_bytes

AXES: Final = ("pp", "tp", "dp_shard", "cp", "dp_replicate")
"""Halved last to first where there are too few processes: what is halved last matters most."""
PEAK: Final = 0.05
HEAD_DIM: Final = 16
HEADS: Final = 8
VOCAB: Final = 512
SEQ_LEN: Final = 128
TOPK: Final = 2


def scaled(work: Work, processes: int) -> Work:
    """Return the work cut to `processes` ranks at most: every axis in use two ranks, layers few.

    InputError where even one axis of two is too much, and for what the trainer does not run.
    """
    split = _split(work.split, processes)
    spec = _spec(work.spec, split)
    rounds = 2 * split.stages if split.pp > 1 else 2
    small = Work(
        spec=spec, split=split, seq_len=SEQ_LEN, optimizer=work.optimizer,
        global_batch=rounds * split.dp * split.micro_batch,
    )  # fmt: skip
    check_runnable(
        spec, split, seq_len=SEQ_LEN, global_batch=small.global_batch, device="cpu", compiled=False
    )
    return small


def _split(split: Split, processes: int) -> Split:
    if processes < 1:
        raise InputError(f"--real is a number of processes from 1, not {processes}")
    sizes = {axis: min(getattr(split, axis), 2) for axis in AXES}
    for axis in reversed(AXES):
        product = 1
        for size in sizes.values():
            product *= size
        if product > processes:
            sizes[axis] = 1
    inner = sizes["dp_shard"] * sizes["cp"] * sizes["tp"]
    return replace(
        split, **sizes, ep=min(split.ep, inner), micro_batch=min(split.micro_batch, 2),
        recompute_layers=0, vpp=min(split.vpp, 2) if sizes["pp"] > 1 else 1,
    )  # fmt: skip


def _spec(spec: ModelSpec, split: Split) -> ModelSpec:
    """Return a model of the same kind of layers, two for each stage, small in every width."""
    grouped = spec.kv_heads < spec.heads
    small: dict[str, Any] = {
        "layers": 2 * split.stages, "hidden": HEADS * HEAD_DIM, "heads": HEADS,
        "kv_heads": HEADS // 2 if grouped else HEADS, "head_dim": HEAD_DIM, "vocab": VOCAB,
    }  # fmt: skip
    if spec.ffn:
        small["ffn"] = 3 * HEADS * HEAD_DIM
    if spec.experts:
        small |= {"experts": 8, "topk": min(spec.topk, TOPK), "moe_ffn": 96,
                  "shared_ffn": 96 if spec.shared_ffn else 0,
                  "first_dense": min(spec.first_dense, 1)}  # fmt: skip
    if spec.mla is not None:
        small["mla"] = replace(
            spec.mla, q_lora=min(spec.mla.q_lora, 48), kv_lora=32, qk_nope=HEAD_DIM,
            qk_rope=HEAD_DIM // 2, v=HEAD_DIM,
        )  # fmt: skip
    return replace(spec, **small)


def check(work: Work) -> tuple[str, bool]:
    """Return a table of every rank, fake against real, and whether they are the same.

    The same list of messages in the same order, FLOPs to the last, the peak within 5 %.
    """
    real = run(work)
    pairs = [(rehearse(work, trace.rank), trace) for trace in real]
    head = f"{work.spec.name} cut down, {work.split.words()}: {len(real)} processes, fake and real"
    lines = [head, f"rank{'messages':>10}{'same':>6}{'FLOPs':>7}{'peak fake':>12}{'real':>10}"]
    lines += [_line(fake, it) for fake, it in pairs]
    return "\n".join(lines), all(same_messages(a, b) and near(a, b) for a, b in pairs)


def _line(fake: Trace, real: Trace) -> str:
    same = "yes" if same_messages(fake, real) else "NO"
    flops = "same" if fake.flops == real.flops else "differ"
    error = 100 * (fake.peak_bytes / real.peak_bytes - 1)
    return (
        f"{real.rank:>4}{len(real.messages):>10}{same:>6}{flops:>7}"
        f"{format_bytes(fake.peak_bytes):>12}{format_bytes(real.peak_bytes):>10}{error:+7.2f} %"
    )


def same_messages(fake: Trace, real: Trace) -> bool:
    """Return whether two traces of a rank issued the same messages in the same order.

    Which of them were issued together is left out: it is no property of the messages.
    """
    ours, theirs = ([replace(m, batch=-1) for m in it.messages] for it in (fake, real))
    return ours == theirs


def near(fake: Trace, real: Trace) -> bool:
    """Return whether FLOPs are the same and peaks within 5 %."""
    peak = abs(fake.peak_bytes - real.peak_bytes) <= PEAK * real.peak_bytes
    return peak and fake.flops == real.flops
