"""Operations of the layers of one micro-batch: attention, feed-forward, experts, scans.

T: tokens of a micro-batch on a rank; h: hidden; element sizes are bytes of 16-bit activations.
Bytes moved count each tensor a fused kernel reads or writes once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Gemm, Operation, matmul
from crore.cost.shape import core_width, mean_context, scan_flops
from crore.cost.step_eager import (
    eager_mlp,
    eager_norm,
    eager_projections,
    eager_residual,
    float32,
)

HALF = 2.0
"""Bytes of a 16-bit element."""


def memory_pass(name: str, bytes_moved: Num, count: Num, **fields: object) -> Operation:
    """Return an element-wise kernel; its backward moves 1.6 times the bytes unless told otherwise.

    Reading the input and the incoming gradient and writing one gradient is 3 tensors for 2.
    """
    values: dict[str, object] = {
        "name": name, "kind": "memory", "bytes_moved": bytes_moved, "count": count,
        "launches": 1.0, "backward": 1.6,
    }  # fmt: skip
    return Operation(**(values | fields))  # type: ignore[arg-type]


def saved_input_bytes(job: Job) -> Num:
    """Bytes per element of a linear layer's kept input: 1 where the stack keeps it in 8 bits."""
    return HALF - np.greater(job.machine.narrow, 0) * job.stack.narrow_saves


def _norm(job: Job, name: str, count: Num) -> Operation:
    if present(job.eager):
        return eager_norm(job, name, count)
    size = HALF * job.narrow_tokens * job.shape.hidden
    return memory_pass(name, 2 * size, count, saved_bytes=size, redo="light")


def _residual(job: Job, name: str, count: Num) -> Operation:
    if present(job.eager):
        return eager_residual(job, name, count)
    elements = job.narrow_tokens * job.shape.hidden
    moved = (3 * HALF + job.stack.dropout) * elements
    kept = job.stack.dropout * elements
    return memory_pass(name, moved, count, saved_bytes=kept, backward=0.7)


def _quantize(job: Job, name: str, elements: Num, count: Num) -> Iterator[Operation]:
    """Cast a linear layer's input: read 16 bits, write the narrow value and its transpose."""
    if present(job.machine.narrow):
        moved = np.greater(job.machine.narrow, 0) * 4.0 * elements
        launches = np.greater(job.machine.narrow, 0) * 1.0
        yield memory_pass(f"{name} cast", moved, count, backward=1.0, launches=launches)


def attention_layer(job: Job) -> Iterator[Operation]:
    """Yield the softmax-attention sub-layer: projections, core, output, norm and residual."""
    s, tp, tokens = job.shape, job.layout.tp, job.tokens
    count = s.attention * job.stage_share
    if not present(count):
        return
    kept = saved_input_bytes(job)
    yield _norm(job, "attention norm", count)
    yield from _quantize(job, "attention input", job.tokens * s.hidden, count)
    if present(1 - s.mla):
        yield from _gqa_projections(job, count * (1 - s.mla), kept)
    if present(s.mla):
        yield from _mla_projections(job, count * s.mla, kept)
    yield from attention_core(job, count)
    value = s.heads * (s.head_dim * (1 - s.mla) + s.v_dim * s.mla) / tp
    # A flash kernel keeps its output, which is the projection's input: one tensor, not two.
    yield matmul(
        "attention output", Gemm(m=tokens, n=s.hidden, k=value), HALF * tokens * value, count=count
    )
    yield _residual(job, "attention residual", count)


def _gqa_projections(job: Job, count: Num, kept: Num) -> Iterator[Operation]:
    if present(job.eager):
        yield from eager_projections(job, count, kept)
        return
    s, tp, tokens = job.shape, job.layout.tp, job.tokens
    query, key = s.heads * s.head_dim / tp, s.kv_heads * s.head_dim / np.minimum(tp, s.kv_heads)
    yield matmul(
        "qkv", Gemm(m=tokens, n=(1 + s.query_gate) * query + 2 * key, k=s.hidden),
        kept * job.narrow_tokens * s.hidden, count=count, drop="light",
    )  # fmt: skip
    heads = tokens * (query + 2 * key)
    yield memory_pass(
        "head layout and rotary",
        2 * HALF * heads,
        count,
        saved_bytes=HALF * heads,
        backward=1.0,
        launches=2.0,
    )


def _mla_projections(job: Job, count: Num, kept: Num) -> Iterator[Operation]:
    s, tp, tokens = job.shape, job.layout.tp, job.tokens
    per_head = s.qk_nope + s.qk_rope
    latent = s.q_lora + s.kv_lora + s.qk_rope
    down = kept * job.narrow_tokens * s.hidden
    # crore's trainer makes the compressed vectors whole on every tensor-parallel rank.
    rows = np.where(np.greater(job.stack.eager, 0), tokens, job.narrow_tokens)
    yield matmul("mla down", Gemm(m=rows, n=latent, k=s.hidden), down, count=count, drop="light")
    # Without a query rank the queries come straight from the layer's input, kept above.
    rank = np.where(np.greater(s.q_lora, 0), s.q_lora, s.hidden)
    yield matmul(
        "mla query up", Gemm(m=tokens, n=s.heads * per_head / tp, k=rank),
        kept * job.narrow_tokens * s.q_lora, count=count, redo="light",
    )  # fmt: skip
    up = s.heads * (s.qk_nope + s.v_dim) / tp
    yield matmul(
        "mla key-value up", Gemm(m=tokens, n=up, k=s.kv_lora),
        kept * job.narrow_tokens * s.kv_lora, count=count, redo="light",
    )  # fmt: skip
    heads = tokens * s.heads / tp * (2 * per_head + s.v_dim)
    yield memory_pass(
        "mla norms and rotary", 2 * HALF * (heads + job.narrow_tokens * latent), count,
        saved_bytes=HALF * heads, backward=1.2, launches=6.0, redo="light", drop="light",
    )  # fmt: skip


def attention_core(job: Job, count: Num) -> Iterator[Operation]:
    """Yield the core: one flash kernel, or two products and a softmax over the whole matrix."""
    s, flash = job.shape, job.stack.flash
    heads = s.heads / job.layout.tp
    if present(flash):
        width, context, backward = _core_work(job)
        per_token = 2 * width / job.layout.tp * context
        yield Operation(
            name="flash attention", kind="attention", count=count * flash, launches=1.0,
            flops=per_token * job.tokens, redo="core", drop="core", backward=backward,
            saved_bytes=_statistics(job) * job.tokens * heads,
        )  # fmt: skip
    if present(1 - flash):
        yield from _unfused_core(job, count * (1 - flash), heads)


def _core_work(job: Job) -> tuple[Num, Num, float]:
    """Return width (FLOPs per pair over 2), tokens that a query meets, and backward over forward.

    Under crore's stack a mask other than the causal one saves nothing: every pair is computed, and
    on a processor by two products and a softmax, whose backward pass is twice the forward one. Its
    values are filled up to the width of queries and keys.
    """
    s = job.shape
    if not present(job.stack.eager):
        return core_width(s), mean_context(s, job.context_len), 2.5
    width = core_width(s) + s.mla * s.heads * np.maximum(s.qk_nope + s.qk_rope - s.v_dim, 0.0)
    some = masked(job)
    context = some * job.seq_len + (1 - some) * (job.context_len + 1) / 2
    return width, context, 2.0 if present(job.eager) and present(some) else 2.5


def masked(job: Job) -> Num:
    """Return the share of attention layers with a mask beyond the causal one: ALiBi, windows."""
    s = job.shape
    return np.maximum(s.alibi, s.windowed / np.maximum(s.attention, 1.0))


def _statistics(job: Job) -> Num:
    """Bytes that a flash kernel keeps per query and head: one 32-bit number."""
    return float32(job, 1.0) if present(job.eager) else 4.0


def _unfused_core(job: Job, count: Num, heads: Num) -> Iterator[Operation]:
    """Scores and context as batched products; softmax and dropout pass over s x s per head.

    Kept: softmax output 2, dropout mask 1 and dropped output 2 bytes per score (arXiv 2205.05198).
    """
    s = job.shape
    batch = job.layout.micro_batch * heads
    rows = job.seq_len / job.layout.cp
    width = s.head_dim * (1 - s.mla) + (s.qk_nope + s.qk_rope) * s.mla
    scores = batch * rows * job.seq_len
    product = Gemm(m=rows, n=job.seq_len, k=width, groups=batch, half=True)
    context = Gemm(m=rows, n=width, k=job.seq_len, groups=batch, half=True)
    yield matmul("attention scores", product, count=count, redo="core")
    kept = (HALF + job.stack.dropout * (1 + HALF)) * scores
    # ALiBi adds its bias to the scores, one more read of the matrix.
    moved = (2 * HALF + job.stack.dropout * (2 * HALF + 1) + s.alibi * HALF) * scores
    yield memory_pass(
        "softmax and dropout", moved, count, saved_bytes=kept, redo="core", drop="core",
        launches=3.0, backward=1.2, scores=True,
    )  # fmt: skip
    yield matmul("attention context", context, count=count, redo="core")


def dense_layer(job: Job) -> Iterator[Operation]:
    """Yield the dense feed-forward sub-layer."""
    s = job.shape
    count = job.stage_dense
    if not present(count):
        return
    yield _norm(job, "feed-forward norm", count)
    yield from _quantize(job, "feed-forward input", job.tokens * s.hidden, count)
    yield from _mlp(job, "feed-forward", s.ffn / job.layout.tp, count)
    yield _residual(job, "feed-forward residual", count)


def _mlp(job: Job, name: str, width: Num, count: Num) -> Iterator[Operation]:
    s, tokens, kept = job.shape, job.tokens, saved_input_bytes(job)
    if present(job.eager):
        yield from eager_mlp(job, name, width, count, kept)
        return
    inner = tokens * width
    yield matmul(
        f"{name} up", Gemm(m=tokens, n=width * (s.matrices - 1), k=s.hidden),
        kept * job.narrow_tokens * s.hidden, count=count, drop="light",
    )  # fmt: skip
    yield memory_pass(
        f"{name} activation", HALF * s.matrices * inner, count,
        saved_bytes=HALF * (s.matrices - 1) * inner, backward=1.7, redo="light",
    )  # fmt: skip
    yield from _quantize(job, name, inner, count)
    yield matmul(
        f"{name} down", Gemm(m=tokens, n=s.hidden, k=width), kept * inner, count=count, drop="light"
    )


def moe_layer(job: Job) -> Iterator[Operation]:
    """Yield the expert sub-layer: router, permutation, grouped products, shared part."""
    s, layout = job.shape, job.layout
    count = job.stage_moe
    if not present(count):
        return
    tokens, kept = job.narrow_tokens, saved_input_bytes(job)
    yield _norm(job, "expert norm", count)
    router = Gemm(m=tokens, n=s.experts, k=s.hidden, half=True)
    size = HALF * tokens * s.hidden
    yield matmul("router", router, size, count=count, launches=8.0, drop="light")
    sent = HALF * tokens * s.topk * s.hidden
    yield memory_pass("dispatch permutation", 2 * sent, count, backward=1.0, launches=6.0)
    routed, local = job.expert_tokens, s.experts / layout.ep
    width = s.moe_ffn / layout.etp
    share = routed / np.maximum(local, 1.0)
    up = Gemm(m=share, n=width * (s.matrices - 1), k=s.hidden, groups=local, experts=True)
    down = Gemm(m=share, n=s.hidden, k=width, groups=local, experts=True)
    inner = routed * width
    yield from _quantize(job, "expert input", routed * s.hidden, count)
    yield matmul("experts up", up, kept * routed * s.hidden, count=count, launches=2.0)
    yield memory_pass(
        "experts activation", HALF * s.matrices * inner, count,
        saved_bytes=HALF * (s.matrices - 1) * inner, backward=1.7, redo="light",
    )  # fmt: skip
    yield from _quantize(job, "experts", inner, count)
    yield matmul("experts down", down, kept * inner, count=count, launches=2.0, drop="light")
    yield memory_pass("combine permutation", 2 * sent, count, backward=1.0, launches=6.0)
    if present(s.shared_ffn):
        shared = count * np.greater(s.shared_ffn, 0)
        yield from _mlp(job, "shared experts", s.shared_ffn / layout.tp, shared)
    yield _residual(job, "expert residual", count)


def mamba_layer(job: Job) -> Iterator[Operation]:
    """Yield the Mamba-2 mixer: projection, short convolution, scan, gated norm, output."""
    s, tp, tokens = job.shape, job.layout.tp, job.tokens
    count = s.mamba * job.stage_share
    if not present(count):
        return
    kept = saved_input_bytes(job)
    inner, extra = s.mamba_inner / tp, 2 * s.mamba_groups * s.mamba_state / tp
    wide = 2 * inner + extra + s.mamba_heads / tp
    yield _norm(job, "mamba norm", count)
    yield from _quantize(job, "mamba input", tokens * s.hidden, count)
    yield matmul(
        "mamba in", Gemm(m=tokens, n=wide, k=s.hidden), kept * job.narrow_tokens * s.hidden,
        count=count,
    )  # fmt: skip
    yield memory_pass(
        "mamba convolution", 2 * HALF * tokens * (inner + extra), count,
        saved_bytes=HALF * tokens * wide, launches=3.0,
    )  # fmt: skip
    yield Operation(
        name="mamba scan", kind="scan", count=count, flops=scan_flops(s)[0] * tokens / tp,
        saved_bytes=HALF * tokens * (inner + extra), launches=6.0, backward=2.5,
    )  # fmt: skip
    yield memory_pass("mamba gate", 3 * HALF * tokens * inner, count, launches=2.0)
    yield matmul(
        "mamba out", Gemm(m=tokens, n=s.hidden, k=inner), kept * tokens * inner, count=count
    )
    yield _residual(job, "mamba residual", count)


def deltanet_layer(job: Job) -> Iterator[Operation]:
    """Yield the gated DeltaNet mixer: projections, short convolution, recurrence, output."""
    s, tp, tokens = job.shape, job.layout.tp, job.tokens
    count = s.deltanet * job.stage_share
    if not present(count):
        return
    kept = saved_input_bytes(job)
    qkv = (2 * s.delta_key + s.delta_value) / tp
    wide = qkv + (s.delta_value + 2 * s.delta_heads) / tp
    value = s.delta_value / tp
    yield _norm(job, "deltanet norm", count)
    yield from _quantize(job, "deltanet input", tokens * s.hidden, count)
    yield matmul(
        "deltanet in", Gemm(m=tokens, n=wide, k=s.hidden), kept * job.narrow_tokens * s.hidden,
        count=count,
    )  # fmt: skip
    yield memory_pass(
        "deltanet convolution", 2 * HALF * tokens * qkv, count, saved_bytes=HALF * tokens * wide,
        launches=6.0,
    )  # fmt: skip
    yield Operation(
        name="delta rule", kind="scan", count=count, flops=scan_flops(s)[1] * tokens / tp,
        saved_bytes=HALF * tokens * qkv, launches=8.0, backward=2.5,
    )  # fmt: skip
    yield memory_pass("deltanet gate", 3 * HALF * tokens * value, count, launches=2.0)
    yield matmul(
        "deltanet out", Gemm(m=tokens, n=s.hidden, k=value), kept * tokens * value, count=count
    )
    yield _residual(job, "deltanet residual", count)
