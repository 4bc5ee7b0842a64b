"""A model's shape as columns, its parameters and its FLOPs: defined once, here.

The catalogue's `ModelSpec` says how a model is built; `Shape` is the same as plain numbers
(each a float or `[N]`), with layers counted by kind, so that a thousand different models can be
priced in one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crore.catalog.types import ModelSpec
from crore.cost.arrays import Num


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Layer counts by kind and widths; every field a float or `[N]`, zero where absent."""

    layers: Num
    hidden: Num
    vocab: Num
    tied: Num
    bias: Num
    qkv_bias: Num
    """1 where query, key and value projections alone have biases."""
    query_gate: Num
    """1 where the query projection also yields an output gate of its own width."""
    positions: Num
    """Rows of a learned position table."""
    alibi: Num
    norm_vectors: Num
    """Vectors per norm: 1 for RMSNorm, 2 for LayerNorm."""
    norms: Num
    """Hidden-width norms in all layers together (the final norm apart)."""
    qk_norm: Num
    attention: Num
    """Layers with softmax attention; `windowed` of them see only `window` tokens."""
    windowed: Num
    window: Num
    heads: Num
    kv_heads: Num
    head_dim: Num
    mla: Num
    """1 when attention is multi-head latent; its five sizes follow."""
    q_lora: Num
    kv_lora: Num
    qk_nope: Num
    qk_rope: Num
    v_dim: Num
    mamba: Num
    """Mamba-2 layers."""
    mamba_inner: Num
    """heads · head_dim."""
    mamba_heads: Num
    mamba_state: Num
    mamba_groups: Num
    mamba_conv: Num
    deltanet: Num
    """Gated DeltaNet layers."""
    delta_key: Num
    """key_heads · key_dim."""
    delta_value: Num
    """value_heads · value_dim."""
    delta_key_dim: Num
    delta_heads: Num
    delta_conv: Num
    dense: Num
    """Layers with a dense feed-forward."""
    leading: Num
    """Of these, the ones ahead of a mixture's first expert layer."""
    ffn: Num
    matrices: Num
    """3 for a gated feed-forward (SwiGLU), else 2."""
    moe: Num
    """Mixture-of-experts layers."""
    experts: Num
    topk: Num
    moe_ffn: Num
    shared_ffn: Num
    mtp: Num
    """Multi-token-prediction modules."""


def _kinds(spec: ModelSpec) -> dict[str, int]:
    """Count layers by mixer and by feed-forward kind."""
    if spec.pattern:
        count = {mark: spec.pattern.count(mark) for mark in "M*-E"}
        return {
            "mamba": count["M"],
            "attention": count["*"],
            "dense": count["-"],
            "moe": count["E"],
            "deltanet": 0,
            "norms": len(spec.pattern),
        }
    moe = (spec.layers - spec.first_dense) // spec.moe_every if spec.experts else 0
    attention = spec.layers // spec.attention_every if spec.deltanet else spec.layers
    return {
        "mamba": 0,
        "attention": attention,
        "deltanet": spec.layers - attention,
        "moe": moe,
        "dense": spec.layers - moe,
        "norms": spec.layers * (1 if spec.parallel_block else 2),
    }


def _windowed(spec: ModelSpec, attention: int) -> int:
    if spec.global_every:
        return attention - attention // spec.global_every
    return attention // spec.window_every


def shape_of(spec: ModelSpec) -> Shape:
    """Return the shape of one catalogue model as plain floats."""
    kinds = _kinds(spec)
    mla, mamba, delta = spec.mla, spec.mamba, spec.deltanet
    windowed = _windowed(spec, kinds["attention"]) if spec.window else 0
    return Shape(
        layers=float(spec.layers),
        hidden=float(spec.hidden),
        vocab=float(spec.vocab),
        tied=float(spec.tied_embeddings),
        bias=float(spec.bias),
        qkv_bias=float(spec.qkv_bias),
        query_gate=float(spec.attention_gate),
        positions=float(spec.max_positions if spec.position == "learned" else 0),
        alibi=float(spec.position == "alibi"),
        norm_vectors=2.0 if spec.norm == "layer" else 1.0,
        norms=float(kinds["norms"]),
        qk_norm=float(spec.qk_norm),
        attention=float(kinds["attention"]),
        windowed=float(windowed),
        window=float(spec.window),
        heads=float(spec.heads),
        kv_heads=float(spec.kv_heads),
        head_dim=float(spec.head_dim),
        mla=float(mla is not None),
        q_lora=float(mla.q_lora if mla else 0),
        kv_lora=float(mla.kv_lora if mla else 0),
        qk_nope=float(mla.qk_nope if mla else 0),
        qk_rope=float(mla.qk_rope if mla else 0),
        v_dim=float(mla.v if mla else 0),
        mamba=float(kinds["mamba"]),
        mamba_inner=float(mamba.heads * mamba.head_dim if mamba else 0),
        mamba_heads=float(mamba.heads if mamba else 0),
        mamba_state=float(mamba.state if mamba else 0),
        mamba_groups=float(mamba.groups if mamba else 0),
        mamba_conv=float(mamba.conv if mamba else 0),
        deltanet=float(kinds["deltanet"]),
        delta_key=float(delta.key_heads * delta.key_dim if delta else 0),
        delta_value=float(delta.value_heads * delta.value_dim if delta else 0),
        delta_key_dim=float(delta.key_dim if delta else 0),
        delta_heads=float(delta.value_heads if delta else 0),
        delta_conv=float(delta.conv if delta else 0),
        dense=float(kinds["dense"]),
        leading=float(spec.first_dense if spec.experts else 0),
        ffn=float(spec.ffn),
        matrices=3.0 if spec.gated_mlp else 2.0,
        moe=float(kinds["moe"]),
        experts=float(spec.experts),
        topk=float(spec.topk),
        moe_ffn=float(spec.moe_ffn),
        shared_ffn=float(spec.shared_ffn),
        mtp=float(spec.mtp_layers),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Weight elements (matrices with their biases) of one layer of each kind, and of the ends."""

    attention: Num
    mamba: Num
    deltanet: Num
    dense: Num
    expert: Num
    """One routed expert."""
    shared: Num
    """Shared experts of a layer, and its router."""
    embedding: Num
    """Token and position tables."""
    head: Num
    """Output matrix; 0 when it is tied to the embedding."""
    norms: Num
    """All norms of the model, the final one included."""
    mtp: Num
    """All multi-token-prediction modules (arXiv 2412.19437 §2.2), without shared tables."""


def _attention(s: Shape) -> Num:
    """One attention layer: GQA `h·a·d + 2h·kv·d + a·d·h`, or the five MLA projections."""
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    gqa = s.hidden * ((2 + s.query_gate) * q + 2 * kv) + s.bias * s.hidden
    gqa = gqa + np.maximum(s.bias, s.qkv_bias) * (q + 2 * kv)
    gqa = gqa + s.qk_norm * 2 * s.head_dim
    per_head = s.qk_nope + s.qk_rope
    direct = s.hidden * s.heads * per_head
    low_rank = s.hidden * s.q_lora + s.q_lora * s.heads * per_head + s.q_lora
    query = np.where(np.greater(s.q_lora, 0), low_rank, direct)
    latent = s.hidden * (s.kv_lora + s.qk_rope) + s.kv_lora
    up = s.kv_lora * s.heads * (s.qk_nope + s.v_dim)
    mla = query + latent + up + s.heads * s.v_dim * s.hidden
    return gqa * (1 - s.mla) + mla * s.mla


def _inner_norms(s: Shape) -> Num:
    """Norm weights inside one attention layer: of the latent vectors, or of queries and keys."""
    return s.mla * (s.q_lora + s.kv_lora) + (1 - s.mla) * s.qk_norm * 2 * s.head_dim


def _feed_forward(s: Shape, width: Num) -> Num:
    return s.matrices * s.hidden * width + s.bias * ((s.matrices - 1) * width + s.hidden)


def _mamba(s: Shape) -> Num:
    """Mamba-2: in_proj to (z, x, B, C, dt), a depthwise convolution, A, D, dt bias, norm, out."""
    bc = 2 * s.mamba_groups * s.mamba_state
    project = s.hidden * (2 * s.mamba_inner + bc + s.mamba_heads)
    conv = (s.mamba_inner + bc) * (s.mamba_conv + 1)
    return project + conv + 3 * s.mamba_heads + s.mamba_inner + s.mamba_inner * s.hidden


def _deltanet(s: Shape) -> Num:
    """Gated DeltaNet: q, k, v, gate, beta and decay projections, convolution, norm, out."""
    qkv = 2 * s.delta_key + s.delta_value
    project = s.hidden * (qkv + s.delta_value + 2 * s.delta_heads)
    small = qkv * s.delta_conv + 2 * s.delta_heads
    head_norm = np.where(np.greater(s.delta_heads, 0), s.delta_value, 0.0) / np.maximum(
        s.delta_heads, 1.0
    )
    return project + small + head_norm + s.delta_value * s.hidden


def weights(s: Shape) -> Weights:
    """Count weight elements by kind of layer."""
    attention = _attention(s)
    dense = _feed_forward(s, s.ffn)
    expert = _feed_forward(s, s.moe_ffn)
    shared = _feed_forward(s, s.shared_ffn) * np.greater(s.shared_ffn, 0)
    shared = shared + s.hidden * s.experts
    sparse = s.experts * expert + shared
    norm = s.norm_vectors * s.hidden
    last = np.where(np.greater(s.experts, 0), sparse, dense)
    module = attention + last + 2 * s.hidden * s.hidden + 4 * norm
    return Weights(
        attention=attention,
        mamba=_mamba(s),
        deltanet=_deltanet(s),
        dense=dense,
        expert=expert,
        shared=shared,
        embedding=(s.vocab + s.positions) * s.hidden,
        head=(1 - s.tied) * s.vocab * s.hidden,
        norms=(s.norms + 1) * norm,
        mtp=s.mtp * module,
    )


def parameters(s: Shape) -> Num:
    """Count all parameters; multi-token-prediction modules apart (they are dropped after training).

    Llama-3-405B 405.85e9, DeepSeek-V3 671.03e9, Baichuan-13B 13,264,901,120.
    """
    w = weights(s)
    mixers = s.attention * w.attention + s.mamba * w.mamba + s.deltanet * w.deltanet
    sparse = s.moe * (s.experts * w.expert + w.shared)
    return mixers + s.dense * w.dense + sparse + w.embedding + w.head + w.norms


def active_parameters(s: Shape) -> Num:
    """Count the matrix elements one token passes through, both tables included, norms not."""
    w = weights(s)
    mixers = s.attention * (w.attention - _inner_norms(s))
    mixers = mixers + s.mamba * w.mamba + s.deltanet * w.deltanet
    sparse = s.moe * (s.topk * w.expert + w.shared)
    return mixers + s.dense * w.dense + sparse + w.embedding + w.head


def mean_context(s: Shape, seq_len: Num) -> Num:
    """Mean keys a query of causal attention sees: (s+1)/2, less in windowed layers.

    With packed documents that do not see each other, `seq_len` is `E[len^2]/E[len]` of their
    lengths.
    """
    full = (seq_len + 1) / 2
    if not np.any(s.windowed):
        return full
    window = np.minimum(np.where(np.greater(s.window, 0), s.window, seq_len), seq_len)
    inside = window - window * (window - 1) / (2 * seq_len)
    share = s.windowed / np.maximum(s.attention, 1.0)
    mean: Num = share * inside + (1 - share) * full
    return mean


def core_width(s: Shape) -> Num:
    """FLOPs per (query, key) pair of one attention layer over 2: `2·a·d`, MLA `a·(dn+dr+dv)`."""
    gqa = 2 * s.heads * s.head_dim
    return gqa * (1 - s.mla) + s.heads * (s.qk_nope + s.qk_rope + s.v_dim) * s.mla


def scan_flops(s: Shape) -> tuple[Num, Num]:
    """FLOPs per token of one Mamba-2 scan and of one gated DeltaNet recurrence.

    State update and read-out: `6·inner·state` (arXiv 2405.21060 §6), DeltaNet `8·value·key_dim`
    (decay, delta correction, update, read; arXiv 2412.06464 eq. 10).
    """
    return 6 * s.mamba_inner * s.mamba_state, 8 * s.delta_value * s.delta_key_dim


def forward_flops_per_token(s: Shape, seq_len: Num, mtp: Num = 0.0) -> Num:
    """Model FLOPs of one token's forward pass, causal attention, 2 per multiply-add.

    A training step is three times this. Embedding look-ups, norms and element-wise work count 0.
    `mtp` > 0 adds that many prediction modules, each one layer and one head pass.
    """
    w = weights(s)
    attention = w.attention - _inner_norms(s)
    mixers = s.attention * attention + s.mamba * w.mamba + s.deltanet * w.deltanet
    sparse = s.topk * w.expert + w.shared
    scan, delta = scan_flops(s)
    core = 2 * core_width(s) * mean_context(s, seq_len)
    head = s.vocab * s.hidden
    last = np.where(np.greater(s.experts, 0), sparse, w.dense)
    module = 2 * (attention + last + 2 * s.hidden * s.hidden + head) + core
    body = 2 * (mixers + s.dense * w.dense + s.moe * sparse + head)
    return body + s.attention * core + s.mamba * scan + s.deltanet * delta + mtp * module
