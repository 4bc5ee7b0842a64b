"""How the tensors of a model are called: here, in Hugging Face's files, in GGUF files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crore.catalog.types import ModelSpec
from crore.model import build_decoder
from crore.model.supported import is_mixture
from crore.serve.layouts import Layout

BALANCE: Final = "feed_forward.balance"
ROUTER: Final = "feed_forward.router.weight"
_LAYER: Final[Mapping[str, tuple[str, str]]] = {
    "attention_norm.weight": ("input_layernorm.weight", "attn_norm.weight"),
    "attention.query.weight": ("self_attn.q_proj.weight", "attn_q.weight"),
    "attention.query.bias": ("self_attn.q_proj.bias", "attn_q.bias"),
    "attention.key.weight": ("self_attn.k_proj.weight", "attn_k.weight"),
    "attention.key.bias": ("self_attn.k_proj.bias", "attn_k.bias"),
    "attention.value.weight": ("self_attn.v_proj.weight", "attn_v.weight"),
    "attention.value.bias": ("self_attn.v_proj.bias", "attn_v.bias"),
    "attention.output.weight": ("self_attn.o_proj.weight", "attn_output.weight"),
    "attention.query_norm.weight": ("self_attn.q_norm.weight", "attn_q_norm.weight"),
    "attention.key_norm.weight": ("self_attn.k_norm.weight", "attn_k_norm.weight"),
    "feed_forward_norm.weight": ("post_attention_layernorm.weight", "ffn_norm.weight"),
    "feed_forward.gate.weight": ("mlp.gate_proj.weight", "ffn_gate.weight"),
    "feed_forward.up.weight": ("mlp.up_proj.weight", "ffn_up.weight"),
    "feed_forward.down.weight": ("mlp.down_proj.weight", "ffn_down.weight"),
    ROUTER: ("mlp.gate.weight", "ffn_gate_inp.weight"),
    BALANCE: ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
    "feed_forward.experts.gate": ("mlp.experts.{}.gate_proj.weight", "ffn_gate_exps.weight"),
    "feed_forward.experts.up": ("mlp.experts.{}.up_proj.weight", "ffn_up_exps.weight"),
    "feed_forward.experts.down": ("mlp.experts.{}.down_proj.weight", "ffn_down_exps.weight"),
    "feed_forward.shared.gate.weight": (
        "mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight",
    ),
    "feed_forward.shared.up.weight": ("mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"),
    "feed_forward.shared.down.weight": (
        "mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight",
    ),
}  # fmt: skip
_ENDS: Final[Mapping[str, tuple[str, str]]] = {
    "embedding.weight": ("model.embed_tokens.weight", "token_embd.weight"),
    "norm.weight": ("model.norm.weight", "output_norm.weight"),
    "head.weight": ("lm_head.weight", "output.weight"),
}
_MIXTRAL: Final = {
    "feed_forward.experts.gate": "block_sparse_moe.experts.{}.w1.weight",
    "feed_forward.experts.up": "block_sparse_moe.experts.{}.w3.weight",
    "feed_forward.experts.down": "block_sparse_moe.experts.{}.w2.weight",
    ROUTER: "block_sparse_moe.gate.weight",
}
_PACKED: Final = ("attention.query.weight", "attention.key.weight", "attention.value.weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """`theirs`, or the part of it from `first` row to `last`, is `ours` or one expert of it."""

    ours: str
    theirs: str
    expert: int | None = None
    """Number along the first dimension of ours; None for all of it."""
    first: int = 0
    last: int | None = None
    """None for all rows from the first on."""


def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a model by its name, in the order of its layers.

    A tied head is not there; the biases that balance experts are.
    """
    model = build_decoder(spec, min(spec.max_positions or 8, 8))
    found = {name: tuple(it.shape) for name, it in model.named_parameters()}
    for layer in range(spec.layers):
        if is_mixture(spec, layer) and spec.router == "sigmoid":
            found[f"layers.{layer}.{BALANCE}"] = (spec.experts,)
    return found


def links(spec: ModelSpec, layout: Layout) -> Iterator[Link]:
    """Yield how the tensors of a layout stand for those of a model."""
    for ours, shape in shapes(spec).items():
        theirs = _theirs(ours, layout)
        if "{}" in theirs:
            for expert in range(spec.experts):
                yield Link(ours=ours, theirs=theirs.format(expert), expert=expert)
        elif layout.fused and ours.endswith(_PACKED):
            place = next(n for n, name in enumerate(_PACKED) if ours.endswith(name))
            yield Link(
                ours=ours, theirs=theirs, first=place * shape[0], last=(place + 1) * shape[0]
            )
        else:
            yield Link(ours=ours, theirs=theirs)
    if spec.tied_embeddings and not layout.ties:
        yield Link(ours="embedding.weight", theirs=_ENDS["head.weight"][0])


def idle_experts(spec: ModelSpec, layout: Layout) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield the tensors of a shared expert of zeros that a model without one is written with.

    As Hugging Face's files and as GGUF files call them, with their shapes. Readers of the layout
    compute a shared expert in any case; one of zeros adds nothing.
    """
    if layout.family != "glm4_moe" or spec.shared_ffn:
        return
    for layer in range(spec.first_dense, spec.layers):
        for part in ("gate", "up", "down"):
            theirs, gguf = _LAYER[f"feed_forward.shared.{part}.weight"]
            shape = (spec.moe_ffn, spec.hidden)
            yield (
                f"model.layers.{layer}.{theirs}", f"blk.{layer}.{gguf}",
                shape[::-1] if part == "down" else shape,
            )  # fmt: skip


def _theirs(ours: str, layout: Layout) -> str:
    if ours in _ENDS:
        return _ENDS[ours][0]
    _, layer, name = ours.split(".", 2)
    before = f"model.layers.{layer}."
    if layout.fused and name in _PACKED:
        return before + "self_attn.W_pack.weight"
    if layout.family == "mixtral" and name in _MIXTRAL:
        return before + _MIXTRAL[name]
    return before + _LAYER[name][0]


def gguf_name(ours: str, layout: Layout) -> str:
    """Return what a GGUF file calls a tensor."""
    if ours in _ENDS:
        return _ENDS[ours][1]
    _, layer, name = ours.split(".", 2)
    if layout.family == "glm4_moe" and name == "feed_forward_norm.weight":
        return f"blk.{layer}.post_attention_norm.weight"
    return f"blk.{layer}.{_LAYER[name][1]}"
