"""A layout is chosen by what the model computes; what none of them computes is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.model import shapes as models
from tests.serve.kinds import KINDS, MIXED, SIZE

from crore.catalog import load_catalog
from crore.errors import InputError
from crore.serve.layouts import gguf_architecture, layout_of

FAMILIES = {
    "dense": ("llama", "llama"), "tied": ("llama", "llama"), "wide-heads": ("llama", "llama"),
    "windowed": ("mistral", "llama"), "biased": ("qwen2", "qwen2"), "normed": ("qwen3", "qwen3"),
    "mixture": ("glm4_moe", "glm4moe"), "mixture-tied": ("glm4_moe", "glm4moe"),
    "one-expert": ("glm4_moe", "glm4moe"), "mixtral": ("mixtral", "llama"),
    "qwen-mixture": ("qwen3_moe", "qwen3moe"), "alibi": ("baichuan", "refact"),
    "alibi-six-heads": ("baichuan", "refact"), "baichuan": ("baichuan", "baichuan"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_model_has_its_layout(name):
    layout = layout_of(KINDS[name])
    assert (layout.family, gguf_architecture(KINDS[name], layout)) == FAMILIES[name]


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("llama-3.1-8b", "llama"), ("smollm2-360m", "llama"), ("mistral-7b", "mistral"),
        ("qwen2.5-7b", "qwen2"), ("qwen3-4b", "qwen3"), ("baichuan-13b", "baichuan"),
        ("baichuan2-7b", "llama"), ("nano-1m", "llama"),
    ],
)  # fmt: skip
def test_models_of_the_catalogue_have_the_layout_they_came_in(model, family):
    assert layout_of(load_catalog().model(model)).family == family


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (models.LATENT, "latent attention"),
        (models.GPT, "layer norms"),
        (models.PARALLEL, "layer norms"),
        (models.WINDOWED, "windows in some layers only"),
        (replace(SIZE, position="none"), "none positions"),
        (replace(SIZE, qk_norm=True, qkv_bias=True), "biases and norms on queries and keys"),
        (replace(SIZE, window=8, qk_norm=True), "a window beside"),
        (replace(SIZE, position="alibi", kv_heads=4, qk_norm=True), "ALiBi beside"),
        (replace(SIZE, position="alibi"), "ALiBi with fewer key-value heads"),
        (replace(MIXED, moe_every=2), "experts in some layers only"),
        (replace(MIXED, router="softmax"), "do not sum to one"),
        (replace(MIXED, router="softmax-topk", shared_ffn=32), "shared experts or dense layers"),
        (replace(MIXED, router="softmax-topk", first_dense=1), "shared experts or dense layers"),
        (replace(MIXED, router="softmax-topk", qkv_bias=True), "experts beside biases"),
        (replace(MIXED, shared_ffn=48), "shared experts of another width"),
    ],
)
def test_what_no_layout_computes_is_refused(spec, said):
    with pytest.raises(InputError, match=said):
        layout_of(spec)
