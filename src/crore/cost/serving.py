"""Memory of inference on one card: weights at a format, the cache, what a prompt needs.

Symbols: T tokens in the cache, h hidden width, n cards that split the model by tensor parallelism.
Left out: speculative decoding, 8-bit caches, and whatever else uses the card (a desktop, say).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from crore.cost.arrays import Num
from crore.cost.linears import Linear, largest_linear, linear_elements, linear_rows, linears
from crore.cost.memory import FRAGMENTATION
from crore.cost.shape import Shape, parameters, weights
from crore.cost.step_ends import FLOAT
from crore.cost.step_layers import HALF

DEVICE_CONTEXT_BYTES: Final = 0.5e9
"""CUDA context and kernels of one process without a network library: an estimate, the middle of
the 0.3-0.8 GB that drivers of 2020 and later are seen to take."""
HOST_PROCESS_BYTES: Final = 0.035e9
"""A process that holds llama.cpp and its buffers on a CPU: what peak memory had beyond weights and
cache (benchmarks/chat_epyc-2core_2026-11-26.md)."""
TORCH_PROCESS_BYTES: Final = 0.4e9
"""A process that holds torch and transformers on a CPU: the peak of one that generated with a model
of 0.4 MB (torch 2.13 without CUDA, transformers 5.24; another 0.01 GB with a 135M model)."""
PROMPT_CHUNK: Final = 2048
"""Tokens of a prompt processed at once; longer prompts come in pieces (vLLM's default of
max_num_batched_tokens; llama.cpp takes 512)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """How weights are stored: linear layers first, then tables, norms and routers."""

    name: str
    bytes_per_weight: float
    """Scales of blocks of weights included."""
    bytes_per_row: float
    """Scales of whole output rows."""
    expands: bool
    """Kernels turn one matrix at a time back into 16 bits."""
    embedding_bytes: float = HALF
    """Per element of the token table, where it is not the head as well."""
    head_bytes: float = HALF
    """Per element of the output matrix."""
    vector_bytes: float = HALF
    """Per element of norms, biases and routers."""
    source: str


FORMATS: Final[Mapping[str, Format]] = {
    row.name: row
    for row in (
        Format(
            name="fp16", bytes_per_weight=HALF, bytes_per_row=0.0, expands=False,
            source="16 bits per weight",
        ),
        Format(
            name="int8", bytes_per_weight=1.0, bytes_per_row=FLOAT, expands=True,
            source="8 bits and a 32-bit scale per row (LLM.int8(), arXiv 2208.07339)",
        ),
        Format(
            name="int4", bytes_per_weight=4.5 / 8, bytes_per_row=0.0, expands=True,
            source="4.5 bits per weight, a 32-bit scale per 64 among them (bitsandbytes, "
            "llama.cpp Q4_0; GPTQ at 128: 4.16)",
        ),
        Format(
            name="nf4", bytes_per_weight=4.127 / 8, bytes_per_row=0.0, expands=True,
            source="4.127 bits per weight, a doubly quantized scale per 64 among them (QLoRA, "
            "arXiv 2305.14314 §3)",
        ),
        Format(
            name="q8_0", bytes_per_weight=8.5 / 8, bytes_per_row=0.0, expands=False,
            embedding_bytes=8.5 / 8, head_bytes=8.5 / 8, vector_bytes=FLOAT,
            source="8.5 bits per weight, a 16-bit scale per 32 among them (llama.cpp Q8_0)",
        ),
        Format(
            name="q4_0", bytes_per_weight=4.5 / 8, bytes_per_row=0.0, expands=False,
            embedding_bytes=4.5 / 8, head_bytes=8.5 / 8, vector_bytes=FLOAT,
            source="4.5 bits per weight, a 16-bit scale per 32 among them (llama.cpp Q4_0), the "
            "head in Q8_0 as crore export writes it",
        ),
    )
}  # fmt: skip
"""Storage formats by name."""


def weight_bytes(s: Shape, stored: Format, found: list[Linear]) -> Num:
    """Return the bytes of a whole model at a format; `found` are its linear layers."""
    packed, counted = linear_elements(found), weights(s)
    rest = parameters(s) - packed - counted.embedding - counted.head
    tables = counted.head * stored.head_bytes + counted.embedding * _embedding_bytes(s, stored)
    linear = packed * stored.bytes_per_weight + linear_rows(found) * stored.bytes_per_row
    return linear + tables + rest * stored.vector_bytes


def _embedding_bytes(s: Shape, stored: Format) -> Num:
    return s.tied * stored.head_bytes + (1 - s.tied) * stored.embedding_bytes


def answer_bytes(s: Shape, stored: Format, tokens: Num, cards: Num) -> tuple[Num, Num]:
    """Return bytes of weights, and of the cache, that a card reads for a token after `tokens`.

    Every active weight and the whole cache are read once, of an untied token table one row.
    """
    counted = weights(s)
    idle = s.moe * (s.experts - s.topk) * counted.expert * stored.bytes_per_weight
    read = (weight_bytes(s, stored, linears(s)) - table_bytes(s, stored) - idle) / cards
    return read, cache_bytes(s, tokens, cards)


def head_bytes(s: Shape, stored: Format) -> Num:
    """Return the bytes of the output matrix: its own, or the token table that is it as well."""
    counted = weights(s)
    return (counted.head + s.tied * counted.embedding) * stored.head_bytes


def table_bytes(s: Shape, stored: Format) -> Num:
    """Return the bytes of the token table where it is not the head."""
    return (1 - s.tied) * weights(s).embedding * stored.embedding_bytes


def expanded_bytes(stored: Format, found: list[Linear]) -> Num:
    """Return the 16-bit copy of the one matrix that is being multiplied, 0 where none is made."""
    return HALF * largest_linear(found) * stored.expands


def cache_bytes(s: Shape, tokens: Num, cards: Num) -> Num:
    """Return bytes one card keeps of a sequence of `tokens`, in 16 bits (states in 32).

    Keys and values of a layer are `2·kv·d` per token (arXiv 2305.13245), of windowed layers for
    the window alone; latent attention keeps `kv_lora + qk_rope` on every card (arXiv 2405.04434
    eq. 9); a Mamba-2 or DeltaNet layer keeps one state and its convolution's tail.
    """
    heads = np.ceil(s.kv_heads / cards)
    per_token = HALF * 2 * heads * s.head_dim * (1 - s.mla) + HALF * (s.kv_lora + s.qk_rope) * s.mla
    seen = (s.attention - s.windowed) * tokens + s.windowed * np.minimum(tokens, s.window)
    mamba = FLOAT * s.mamba_inner * s.mamba_state + HALF * np.maximum(s.mamba_conv - 1, 0) * (
        s.mamba_inner + 2 * s.mamba_groups * s.mamba_state
    )
    delta = FLOAT * s.delta_value * s.delta_key_dim + HALF * np.maximum(s.delta_conv - 1, 0) * (
        2 * s.delta_key + s.delta_value
    )
    return per_token * seen + (s.mamba * mamba + s.deltanet * delta) / cards


def prompt_bytes(s: Shape, tokens: Num, cards: Num) -> Num:
    """Return transient bytes while a prompt of `tokens` is read: the widest point of one layer.

    Three tensors of width h, and the inputs and outputs of attention or of the feed-forward,
    whichever is wider; then one row of 32-bit logits.
    """
    read = np.minimum(tokens, PROMPT_CHUNK)
    attention = (2 + s.query_gate) * s.heads * s.head_dim * (1 - s.mla)
    attention = attention + s.heads * (2 * (s.qk_nope + s.qk_rope) + 2 * s.v_dim) * s.mla
    mixer = np.maximum(attention, np.maximum(3 * s.mamba_inner, 3 * s.delta_value))
    feed = s.matrices * np.maximum(s.ffn, s.topk * s.moe_ffn + s.shared_ffn)
    routed = s.topk * s.hidden
    wide = np.maximum(mixer, feed + routed) / cards
    return HALF * read * (3 * s.hidden + wide) + FLOAT * s.vocab / cards


def tensor_parallel(s: Shape, cards: Num) -> Num:
    """Return the cards one copy of the model is split over: the most that divide its heads.

    Engines refuse a degree that does not divide the attention heads (vLLM `--tensor-parallel-size`,
    the same rule as in `layout.rules`); further cards hold further copies.
    """
    split: Num = 1.0
    for degree in range(2, int(min(np.max(cards), np.max(s.heads))) + 1):
        even = np.equal(np.mod(s.heads, degree), 0) & np.less_equal(degree, cards)
        split = np.where(even, float(degree), split)
    return split


def serving_parts(s: Shape, stored: Format, tokens: Num, cards: Num) -> dict[str, Num]:
    """Return bytes on one of `cards` that split a model serving one sequence of `tokens`.

    Weights are laid down once and leave no gaps; what comes and goes fragments.
    """
    found = linears(s)
    work = expanded_bytes(stored, found) / cards + prompt_bytes(s, tokens, cards)
    cache = cache_bytes(s, tokens, cards)
    return {
        "weights": weight_bytes(s, stored, found) / cards,
        "cache": cache,
        "working": work,
        "fragmentation": FRAGMENTATION * (cache + work),
        "context": DEVICE_CONTEXT_BYTES + 0.0 * cache,
    }
