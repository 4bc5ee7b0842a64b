"""The checkpoint layouts of others: which of them a model is written in, and why it has none.

A layout is chosen by what the model computes, never by its name, so that whoever reads the file
computes the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from crore.catalog.types import ModelSpec
from crore.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What readers call a kind of model."""

    family: str
    """`model_type` of Hugging Face's config.json."""
    architecture: str
    """Its class there."""
    gguf: str
    """Architecture of a GGUF file."""
    interleaved: bool = False
    """The GGUF reader turns neighbouring pairs of a head's numbers, not its two halves."""
    fused: bool = False
    """Queries, keys and values are one matrix (W_pack)."""
    ties: bool = True
    """A head can be the embedding itself."""


LAYOUTS: Final[Mapping[str, Layout]] = {
    layout.family: layout
    for layout in (
        Layout(family="llama", architecture="LlamaForCausalLM", gguf="llama", interleaved=True),
        Layout(family="mistral", architecture="MistralForCausalLM", gguf="llama", interleaved=True),
        Layout(family="qwen2", architecture="Qwen2ForCausalLM", gguf="qwen2"),
        Layout(family="qwen3", architecture="Qwen3ForCausalLM", gguf="qwen3"),
        Layout(family="mixtral", architecture="MixtralForCausalLM", gguf="llama", interleaved=True),
        Layout(family="qwen3_moe", architecture="Qwen3MoeForCausalLM", gguf="qwen3moe"),
        Layout(family="glm4_moe", architecture="Glm4MoeForCausalLM", gguf="glm4moe"),
        Layout(
            family="baichuan", architecture="BaichuanForCausalLM", gguf="baichuan", fused=True,
            interleaved=True, ties=False,
        ),
    )
}  # fmt: skip
"""By family. Glm4Moe is the one whose router is crore's own: sigmoids, a bias that chooses."""
BAICHUAN_LAYERS: Final = {"rope": 32, "alibi": 40}
"""llama.cpp tells Baichuan's position encodings apart by the layers of its two sizes."""
ALIBI_ANY: Final = "refact"
"""GGUF architecture of the same layers with ALiBi that takes any number of them."""


def layout_of(spec: ModelSpec) -> Layout:
    """Return the layout in which others read a model; InputError says what none of them has."""
    for holds, what in _refusals(spec):
        if holds:
            raise InputError(
                f"{spec.name} has {what}: no Hugging Face or GGUF layout that crore writes has that"
            )
    return LAYOUTS[_family(spec)]


def _family(spec: ModelSpec) -> str:
    if spec.position == "alibi":
        return "baichuan"
    if spec.experts:
        if spec.router == "sigmoid":
            return "glm4_moe"
        return "qwen3_moe" if spec.qk_norm else "mixtral"
    if spec.qk_norm:
        return "qwen3"
    if spec.qkv_bias:
        return "qwen2"
    return "mistral" if spec.window else "llama"


def _refusals(spec: ModelSpec) -> Iterator[tuple[bool, str]]:
    sigmoid = spec.router == "sigmoid"
    yield spec.mla is not None, "latent attention"
    yield spec.norm != "rms" or not spec.gated_mlp, f"{spec.norm} norms or ungated feed-forwards"
    yield spec.bias or spec.parallel_block, "biases everywhere or parallel blocks"
    yield spec.position not in ("rope", "alibi"), f"{spec.position} positions"
    yield (
        spec.window > 0 and (spec.window_every > 1 or spec.global_every > 0),
        "windows in some layers only",
    )
    yield spec.qkv_bias and spec.qk_norm, "biases and norms on queries and keys"
    yield (
        spec.window > 0 and (spec.experts > 0 or spec.qk_norm or spec.qkv_bias),
        "a window beside experts, norms or biases of attention",
    )
    yield (
        spec.position == "alibi"
        and (spec.experts > 0 or spec.qk_norm or spec.qkv_bias or spec.window > 0),
        "ALiBi beside experts, windows, norms or biases of attention",
    )
    yield (
        spec.position == "alibi" and spec.kv_heads != spec.heads,
        "ALiBi with fewer key-value heads than heads",
    )
    if spec.experts:
        yield spec.moe_every > 1, "experts in some layers only"
        yield spec.router == "softmax", "a router whose weights do not sum to one"
        yield (
            not sigmoid and (spec.shared_ffn > 0 or spec.first_dense > 0),
            "shared experts or dense layers beside a softmax router",
        )
        yield spec.qkv_bias and not sigmoid, "experts beside biases of attention"
        yield spec.shared_ffn % spec.moe_ffn > 0, "shared experts of another width than routed ones"


def feed_forward_width(spec: ModelSpec) -> int:
    """Return the width that readers ask for: of dense layers, or of an expert where none is."""
    dense = not spec.experts or spec.first_dense
    return spec.ffn if dense else spec.moe_ffn


def gguf_architecture(spec: ModelSpec, layout: Layout) -> str:
    """Return what a GGUF file calls the model."""
    if layout.family == "baichuan" and spec.position == "alibi":
        return layout.gguf if spec.layers == BAICHUAN_LAYERS["alibi"] else ALIBI_ANY
    return layout.gguf
