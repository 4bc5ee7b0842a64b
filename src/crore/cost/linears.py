"""The linear layers of a model, kind by kind: what quantization packs and LoRA adapts.

`shape.weights` counts elements; this lists the matrices behind them, because adapters and row
scales grow with a matrix's sides and not with its area. Routers, tables and norms are not listed:
they stay in 16 bits, without adapters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import Num
from crore.cost.shape import Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """`count` matrices `[inputs, outputs]`; every field a float or `[N]`, zero where absent."""

    count: Num
    inputs: Num
    outputs: Num


def linears(s: Shape) -> list[Linear]:
    """Return every kind of linear layer of a model."""
    found = [*_gqa(s), *_mla(s), *_mamba(s), *_deltanet(s), *_feed_forward(s, s.dense, s.ffn)]
    found += _feed_forward(s, s.moe * s.experts, s.moe_ffn)
    shared = s.moe * np.greater(s.shared_ffn, 0)
    return [*found, *_feed_forward(s, shared, s.shared_ffn)]


def linear_elements(found: list[Linear]) -> Num:
    """Return the elements of the listed matrices together."""
    return sum((x.count * x.inputs * x.outputs for x in found), start=0.0)


def linear_rows(found: list[Linear]) -> Num:
    """Return their output rows together, one scale each where a format scales by row."""
    return sum((x.count * x.outputs for x in found), start=0.0)


def largest_linear(found: list[Linear]) -> Num:
    """Return the elements of the largest single matrix."""
    largest: Num = 0.0
    for x in found:
        largest = np.maximum(largest, x.inputs * x.outputs * np.greater(x.count, 0))
    return largest


def adapter_parameters(found: list[Linear], rank: Num) -> Num:
    """Return the trainable parameters of LoRA at `rank` on the listed matrices.

    Two thin matrices each: `rank · (inputs + outputs)` (arXiv 2106.09685 §4.1). Llama-3-8B at rank
    16: 41,943,040.
    """
    return sum((x.count * rank * (x.inputs + x.outputs) for x in found), start=0.0)


def _gqa(s: Shape) -> Iterator[Linear]:
    count = s.attention * (1 - s.mla)
    query, key = s.heads * s.head_dim, s.kv_heads * s.head_dim
    yield Linear(count=count, inputs=s.hidden, outputs=(1 + s.query_gate) * query)
    yield Linear(count=2 * count, inputs=s.hidden, outputs=key)
    yield Linear(count=count, inputs=query, outputs=s.hidden)


def _mla(s: Shape) -> Iterator[Linear]:
    """The projections of DeepSeek-V2 (arXiv 2405.04434 §2.1); queries may be projected directly."""
    count = s.attention * s.mla
    low_rank = np.greater(s.q_lora, 0)
    query = s.heads * (s.qk_nope + s.qk_rope)
    yield Linear(count=count * low_rank, inputs=s.hidden, outputs=s.q_lora)
    yield Linear(count=count, inputs=np.where(low_rank, s.q_lora, s.hidden), outputs=query)
    yield Linear(count=count, inputs=s.hidden, outputs=s.kv_lora + s.qk_rope)
    yield Linear(count=count, inputs=s.kv_lora, outputs=s.heads * (s.qk_nope + s.v_dim))
    yield Linear(count=count, inputs=s.heads * s.v_dim, outputs=s.hidden)


def _mamba(s: Shape) -> Iterator[Linear]:
    wide = 2 * s.mamba_inner + 2 * s.mamba_groups * s.mamba_state + s.mamba_heads
    yield Linear(count=s.mamba, inputs=s.hidden, outputs=wide)
    yield Linear(count=s.mamba, inputs=s.mamba_inner, outputs=s.hidden)


def _deltanet(s: Shape) -> Iterator[Linear]:
    wide = 2 * s.delta_key + 2 * s.delta_value
    yield Linear(count=s.deltanet, inputs=s.hidden, outputs=wide)
    yield Linear(count=s.deltanet, inputs=s.hidden, outputs=2 * s.delta_heads)
    yield Linear(count=s.deltanet, inputs=s.delta_value, outputs=s.hidden)


def _feed_forward(s: Shape, count: Num, width: Num) -> Iterator[Linear]:
    yield Linear(count=count * (s.matrices - 1), inputs=s.hidden, outputs=width)
    yield Linear(count=count, inputs=width, outputs=s.hidden)
