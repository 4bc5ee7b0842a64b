"""Operations of an eager stack on a CPU: every kernel of the code is a pass over memory of its own.

E = tokens x hidden, I = tokens x width: elements of one tensor. Bytes are those of 16-bit elements,
as in all lists; what is 32 bits in any format is divided by the width of the others. Counted in the
decoder's code and held against its trace (tests/model/test_eager.py). Exact for dense models
in fp32; experts, latent attention and scans are listed as fused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job
from crore.cost.operations import Gemm, Operation, Stage, matmul

HALF = 2.0
FLOAT = 4.0
INDEX = 8.0
"""Bytes of a token's number."""


def eager_pass(
    name: str, size: Num, tensors: Num, ratio: Num, count: Num, **fields: object
) -> Operation:
    """Return a pass that moves `tensors` of `size` bytes forward, `ratio` times them backward."""
    values: dict[str, object] = {
        "name": name, "kind": "memory", "bytes_moved": tensors * size, "count": count,
        "tensor_bytes": size, "launches": tensors / 2, "backward": ratio,
    }  # fmt: skip
    return Operation(**(values | fields))  # type: ignore[arg-type]


def backward_pass(name: str, size: Num, tensors: Num, count: Num, **fields: object) -> Operation:
    """Return a pass of the backward pass alone."""
    values: dict[str, object] = {
        "name": name, "kind": "memory", "phase": "backward", "redo": "never", "count": count,
        "bytes_moved": tensors * size, "tensor_bytes": size, "launches": tensors / 3,
    }  # fmt: skip
    return Operation(**(values | fields))  # type: ignore[arg-type]


def float32(job: Job, elements: Num) -> Num:
    """Bytes of 32-bit elements, in the unit of the list."""
    return FLOAT / job.machine.element_scale * elements


def eager_norm(job: Job, name: str, count: Num, stage: Stage = "layer") -> Operation:
    """RMSNorm out of its parts: 7 E forward, 23 E backward; it keeps x, x/rms and 1/rms.

    Forward x², mean, x/rms, times weight; backward two products and a sum for the weight, then
    three terms for x. LayerNorm is one kernel: 2 E, 3 E, and keeps x with two numbers a token.
    """
    tokens = job.narrow_tokens
    size = HALF * tokens * job.shape.hidden
    layer = np.equal(job.shape.norm_vectors, 2)
    kept = np.where(layer, size + float32(job, 2 * tokens), 2 * size + float32(job, tokens))
    return eager_pass(
        name, size, np.where(layer, 2.0, 7.0), np.where(layer, 1.5, 23 / 7), count,
        saved_bytes=kept, redo="light", stage=stage,
    )  # fmt: skip


def eager_residual(job: Job, name: str, count: Num) -> Operation:
    """X + branch, and backward the sum of the two paths' gradients."""
    return eager_pass(name, HALF * job.narrow_tokens * job.shape.hidden, 3.0, 1.0, count)


def eager_projections(job: Job, count: Num, kept: Num) -> Iterator[Operation]:
    """Query, key and value as three products of one input, then rotary on queries and keys.

    Turning moves 10 tensors each way: x·cos, the halves swapped (negated, joined), times sin, sum.
    """
    s, tp, tokens = job.shape, job.layout.tp, job.tokens
    query, key = s.heads * s.head_dim / tp, s.kv_heads * s.head_dim / np.minimum(tp, s.kv_heads)
    wide = (1 + s.query_gate) * query
    saved = kept * job.narrow_tokens * s.hidden
    yield matmul("query", Gemm(m=tokens, n=wide, k=s.hidden), saved, count=count, drop="light")
    yield matmul("key", Gemm(m=tokens, n=key, k=s.hidden), count=count)
    yield matmul("value", Gemm(m=tokens, n=key, k=s.hidden), count=count)
    yield _input_sums(job, "attention input gradients", 2.0, count)
    turned = 1 - np.maximum(s.alibi, np.greater(s.positions, 0))
    heads = HALF * tokens * (query + 2 * key)
    yield eager_pass(
        "rotary", HALF * tokens * (query + key) / 2, 20.0 * turned, 1.0, count,
        saved_bytes=heads,
    )  # fmt: skip


def _input_sums(job: Job, name: str, times: float, count: Num) -> Operation:
    """Add up the gradients of an input that several products read."""
    size = HALF * job.narrow_tokens * job.shape.hidden
    return backward_pass(name, size, 3.0 * times, count)


def eager_mlp(job: Job, name: str, width: Num, count: Num, kept: Num) -> Iterator[Operation]:
    """Gate and up as two products, silu, their product; or up and gelu where there is no gate."""
    s, tokens = job.shape, job.tokens
    inner = tokens * width
    gated = np.equal(s.matrices, 3) * count
    saved = kept * job.narrow_tokens * s.hidden
    up = Gemm(m=tokens, n=width, k=s.hidden)
    if present(gated):
        yield matmul(f"{name} gate", up, count=gated)
    yield matmul(f"{name} up", up, saved, count=count, drop="light")
    if present(gated):
        yield _input_sums(job, f"{name} input gradients", 1.0, gated)
    yield eager_pass(
        f"{name} activation", HALF * inner, 2.0, 1.5, count, saved_bytes=HALF * inner,
        redo="light", exponential=True,
    )  # fmt: skip
    if present(gated):
        yield eager_pass(
            f"{name} product", HALF * inner, 3.0, 2.0, gated, saved_bytes=2 * HALF * inner,
            redo="light",
        )  # fmt: skip
    yield matmul(
        f"{name} down", Gemm(m=tokens, n=s.hidden, k=width), kept * inner, count=count, drop="light"
    )


def eager_ends(job: Job) -> Iterator[Operation]:
    """Yield embedding, final norm, head and the loss over 32-bit logits.

    The loss keeps its log-softmax; backward a tensor of zeros takes the targets' gradient, and the
    softmax's gradient is made of both.
    """
    s, tokens, tp = job.shape, job.tokens, job.layout.tp
    size = HALF * tokens * s.hidden
    table = s.vocab / tp * s.hidden
    yield eager_pass(
        "embedding", size, 2.0, 1.5, 1.0, stage="first",
        saved_bytes=INDEX / job.machine.element_scale * tokens,
    )  # fmt: skip
    # Zeros for the table's gradient; where it is tied, that gradient and the head's are added.
    zeros = float32(job, table)
    yield backward_pass("table gradient", zeros, 1.0 + 3.0 * s.tied, 1.0, stage="first")
    passes = 1 + job.mtp
    yield eager_norm(job, "final norm", passes, "last")
    yield matmul(
        "head", Gemm(m=tokens, n=s.vocab / tp, k=s.hidden, half=True), size,
        count=passes, stage="last",
    )  # fmt: skip
    logits = float32(job, tokens * s.vocab / tp)
    yield eager_pass(
        "cross-entropy", logits, 2.0, 1.5, passes, stage="last", exponential=True,
        saved_bytes=logits + INDEX / job.machine.element_scale * tokens,
    )  # fmt: skip
    yield backward_pass("target gradient", logits, 1.0, passes, stage="last")
