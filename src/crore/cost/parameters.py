"""The parameters of a layer on one rank, row by row: what a fully sharded run pads and sends.

FSDP2 cuts each parameter by rows into equal chunks, the last ones short or empty, and sends whole
chunks; so the bytes of a gather follow from rows, not from elements alone. Tensor and expert
parallelism have cut the matrices before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num, present
from crore.cost.job import Job


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """`count` parameters of `rows` x `columns` elements on a rank; floats or `[N]`."""

    rows: Num
    columns: Num = 1.0
    count: Num = 1.0


def padded(parameters: Iterable[Parameter], ranks: Num) -> Num:
    """Return the elements of parameters with each one's rows filled up to a multiple of `ranks`."""
    total: Num = 0.0
    for p in parameters:
        total = total + p.count * np.ceil(p.rows / ranks) * ranks * p.columns
    return total


def attention_parameters(job: Job) -> Iterator[Parameter]:
    """Yield what a layer holds beside its feed-forward: attention and the norms."""
    s = job.shape
    if present(1 - s.mla):
        yield from _grouped(job, 1 - s.mla)
    if present(s.mla):
        yield from _latent(job, s.mla)
    yield Parameter(rows=s.hidden, count=s.norm_vectors * s.norms / s.layers)


def _grouped(job: Job, here: Num) -> Iterator[Parameter]:
    s, tp = job.shape, job.layout.tp
    query = s.heads * s.head_dim / tp
    key = s.kv_heads * s.head_dim / np.minimum(tp, np.maximum(s.kv_heads, 1.0))
    yield Parameter(rows=(1 + s.query_gate) * query, columns=s.hidden, count=here)
    yield Parameter(rows=key, columns=s.hidden, count=2 * here)
    yield Parameter(rows=s.hidden, columns=query, count=here)
    biases = here * np.maximum(s.bias, s.qkv_bias)
    if present(biases):
        yield Parameter(rows=query, count=biases)
        yield Parameter(rows=key, count=2 * biases)
        yield Parameter(rows=s.hidden, count=here * s.bias)
    if present(s.qk_norm):
        yield Parameter(rows=s.head_dim, count=2 * here * s.qk_norm)


def _latent(job: Job, here: Num) -> Iterator[Parameter]:
    """The compressed vectors' parameters are whole on every tensor-parallel rank."""
    s, tp = job.shape, job.layout.tp
    low = here * np.greater(s.q_lora, 0)
    inputs = np.where(np.greater(s.q_lora, 0), s.q_lora, s.hidden)
    yield Parameter(rows=s.heads * (s.qk_nope + s.qk_rope) / tp, columns=inputs, count=here)
    yield Parameter(rows=s.kv_lora + s.qk_rope, columns=s.hidden, count=here)
    yield Parameter(rows=s.kv_lora, count=here)
    yield Parameter(rows=s.heads * (s.qk_nope + s.v_dim) / tp, columns=s.kv_lora, count=here)
    yield Parameter(rows=s.hidden, columns=s.heads * s.v_dim / tp, count=here)
    if present(low):
        yield Parameter(rows=s.q_lora, columns=s.hidden, count=low)
        yield Parameter(rows=s.q_lora, count=low)


def feed_forward_parameters(job: Job, width: Num, here: Num = 1.0) -> Iterator[Parameter]:
    """Yield a feed-forward of that width on a rank, `here` times."""
    s = job.shape
    yield Parameter(rows=width, columns=s.hidden, count=here * (s.matrices - 1))
    yield Parameter(rows=s.hidden, columns=width, count=here)
    if present(s.bias):
        yield Parameter(rows=width, count=here * s.bias * (s.matrices - 1))
        yield Parameter(rows=s.hidden, count=here * s.bias)


def dense_parameters(job: Job) -> Iterator[Parameter]:
    """Yield the parameters of a layer with a dense feed-forward."""
    yield from attention_parameters(job)
    yield from feed_forward_parameters(job, job.shape.ffn / job.layout.tp)


def sparse_parameters(job: Job) -> Iterator[Parameter]:
    """Yield the parameters of an expert layer, routed experts left out."""
    s = job.shape
    yield from attention_parameters(job)
    yield Parameter(rows=s.experts, columns=s.hidden)
    if present(s.shared_ffn):
        shared = np.greater(s.shared_ffn, 0) * 1.0
        yield from feed_forward_parameters(job, s.shared_ffn / job.layout.tp, shared)


def expert_parameters(job: Job, ranks: Num) -> Iterator[Parameter]:
    """Yield the routed experts of a layer, stacked, by the dimension that `ranks` cut.

    That is the first, which counts experts, or, where experts do not divide and their widths do,
    the second.
    """
    s, own = job.shape, job.shape.experts / job.layout.ep
    width = s.moe_ffn / job.layout.etp
    even = np.equal(np.mod(width, ranks), 0) & np.equal(np.mod(s.hidden, ranks), 0)
    through = np.not_equal(np.mod(own, ranks), 0) & even
    for rows, columns, count in (
        (width, s.hidden, s.matrices - 1), (s.hidden, width, 1.0),
        (width, 1.0, s.bias * (s.matrices - 1)), (s.hidden, 1.0, s.bias),
    ):  # fmt: skip
        if present(count):
            yield Parameter(
                rows=np.where(through, rows, own), columns=np.where(through, own, rows) * columns,
                count=count,
            )  # fmt: skip
