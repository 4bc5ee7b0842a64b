"""Model shapes are the published ones, found under every published name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.catalog.models import build_model, check_model
from crore.errors import MAX_MESSAGE_CHARS, InputError, UnknownName

CATALOG = load_catalog()
GIVEN = {"source": "mine", "date": "2025"}
TINY = {
    "layers": 2,
    "hidden": 64,
    "heads": 4,
    "ffn": 256,
    "vocab": 1000,
    "gated_mlp": True,
    "tied_embeddings": False,
    "bias": False,
    "position": "rope",
    "norm": "rms",
    **GIVEN,
}
# Every shape that a published measurement names.
_PUBLISHED = """
bloom-176b bloom-h12288-l100-a64 bloom-h12288-l106-a128 bloom-h12288-l106-a64 bloom-h12288-l106-a96
bloom-h12288-l96-a128 bloom-h12288-l96-a64 bloom-h12288-l96-a96 bloom-h13312-l82-a104
bloom-h13312-l82-a128 bloom-h13312-l82-a64 bloom-h13312-l84-a128 bloom-h13312-l84-a64
bloom-h13312-l94-a128 bloom-h13824-l78-a128 bloom-h13824-l78-a64 bloom-h13824-l78-a96
bloom-h13824-l80-a64 bloom-h13824-l84-a64 bloom-h14336-l10-a64 bloom-h14336-l6-a64
bloom-h14336-l70-a112 bloom-h14336-l70-a128 bloom-h14336-l70-a64 bloom-h14336-l72-a112
bloom-h14336-l72-a128 bloom-h14336-l72-a16 bloom-h14336-l72-a256 bloom-h14336-l72-a32
bloom-h14336-l72-a64 bloom-h14336-l82-a128 bloom-h14400-l72-a64 bloom-h14400-l77-a64
bloom-h14400-l8-a32 bloom-h14400-l80-a64 bloom-h14400-l80-a96 deepseek-v2-l4 deepseek-v3
deepseek-v3-l4 gpt-1.7b gpt-145b gpt-175b gpt-18b gpt-1t gpt-22b gpt-3.6b gpt-310b gpt-39b gpt-530b
gpt-7.5b gpt-76b gpt-oss-120b gpt2-124m gpt3-175b gpt3-20b gpt3-5b grok1-314b grok1-314b-l16
grok1-314b-l2 grok1-314b-l32 grok1-314b-l4 grok1-314b-l8 kimi-k2 llama2-13b llama2-70b llama2-7b
llama3-70b llama3-70b-l12 llama3-8b llama3.1-405b llama3.1-405b-kv16-l4 llama3.1-405b-l21
llama3.1-405b-l30 llama3.1-405b-l42 llama3.1-405b-l62 llama3.1-405b-l7 llama3.1-405b-l8
llama3.1-405b-v32k llama4-maverick-400b mcore-1.7b mcore-119b mcore-16b mcore-177b mcore-314b
mcore-32b mcore-462b mcore-7.1b mcore-70b megascale-175b megatron2020-1b megatron2020-2b
megatron2020-4b megatron2020-8b mixtral-8x22b mixtral-8x7b mpt-125m mpt-13b mpt-1b mpt-30b mpt-350m
mpt-3b mpt-70b mpt-760m mpt-7b nemotron-3-22b nemotron-3-8b nemotron-3-nano nemotron-4-15b
nemotron-4-340b nemotron-h-56b palm-540b qwen3-235b-a22b qwen3-30b-a3b qwen3-next-80b-a3b
vtrain-h1024-l12-a16 vtrain-h1024-l16-a16 vtrain-h1024-l20-a16 vtrain-h1024-l24-a16
vtrain-h12288-l96-a96 vtrain-h2048-l12-a16 vtrain-h2048-l16-a16 vtrain-h2048-l20-a16
vtrain-h2048-l24-a16 vtrain-h3072-l30-a32 vtrain-h6144-l40-a48 vtrain-h8192-l48-a64
"""
PUBLISHED = _PUBLISHED.split()


def test_every_published_shape_is_a_key_of_its_own_name():
    assert len(PUBLISHED) == 126
    assert set(PUBLISHED) <= set(CATALOG.models())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_named_by_its_sizes_has_them(name):
    parts = {part[0]: part[1:] for part in name.split("-")[1:] if part[1:].isdigit()}
    model = CATALOG.model(name)
    if name.startswith(("bloom-h", "vtrain-h")):
        sizes = (model.layers, model.hidden, model.heads)
        assert sizes == (int(parts["l"]), int(parts["h"]), int(parts["a"]))
        assert model.ffn == 4 * model.hidden
    elif "l" in parts:
        assert model.layers == int(parts["l"])


def test_every_shipped_row_builds_and_says_where_it_is_from():
    for name in CATALOG.models():
        provenance = CATALOG.model(name).provenance
        assert provenance.source
        assert provenance.date[:2] == "20"
        # What somebody remembered nobody has verified.
        assert not (provenance.verified and provenance.source.endswith("(recalled)")), name


def test_llama_3_405b_is_the_published_shape():
    model = CATALOG.model("llama3.1-405b")
    assert (model.layers, model.hidden, model.heads, model.kv_heads) == (126, 16384, 128, 8)
    assert (model.head_dim, model.ffn, model.vocab) == (128, 53248, 128256)
    assert (model.norm, model.position, model.tied_embeddings) == ("rms", "rope", False)


def test_deepseek_v3_is_the_published_shape():
    model = CATALOG.model("deepseek-v3")
    assert (model.layers, model.first_dense, model.ffn) == (61, 3, 18432)
    assert (model.experts, model.topk, model.moe_ffn, model.shared_ffn) == (256, 8, 2048, 2048)
    assert model.mla is not None
    assert (model.mla.q_lora, model.mla.kv_lora, model.mla.qk_rope) == (1536, 512, 64)
    assert model.mtp_layers == 1


def test_baichuan_13b_has_the_checkpoints_13_264_901_120_parameters():
    model = CATALOG.model("baichuan-13b")
    assert model.position == "alibi"
    assert not model.tied_embeddings
    layer = 4 * model.hidden**2 + 3 * model.hidden * model.ffn + 2 * model.hidden
    tables = 2 * model.vocab * model.hidden
    assert model.layers * layer + tables + model.hidden == 13_264_901_120


def test_shared_experts_count_by_width():
    assert CATALOG.model("deepseek-v2").shared_ffn == 2 * 1536
    assert CATALOG.model("qwen3-30b-a3b").shared_ffn == 0


def test_mixtures_without_dense_layers_have_no_dense_width():
    for name in CATALOG.models():
        model = CATALOG.model(name)
        if model.experts and model.first_dense == 0 and model.moe_every == 1:
            assert model.ffn == 0, name


def test_hybrids_keep_their_pattern():
    model = CATALOG.model("nemotron-h-56b")
    assert len(model.pattern) == model.layers == 118
    assert model.mamba is not None
    assert model.mamba.heads * model.mamba.head_dim == 2 * model.hidden
    nano = CATALOG.model("nemotron-3-nano")
    assert (nano.pattern.count("*"), nano.pattern.count("E")) == (6, 23)


def test_norms_follow_the_family():
    for name in ("gpt3-175b", "bloom-176b", "mpt-7b", "opt-6.7b", "palm-540b", "nemotron-4-340b"):
        assert CATALOG.model(name).norm == "layer", name
    for name in ("llama2-7b", "qwen3-8b", "deepseek-v3", "mixtral-8x7b", "gpt-oss-20b", "grok1"):
        assert CATALOG.model(name).norm == "rms", name


def test_gpt_4_is_marked_as_a_rumour():
    provenance = CATALOG.model("gpt-4").provenance
    assert not provenance.verified
    assert "RUMOUR" in provenance.note


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        ("llama-3.1-405b", "llama3.1-405b"),
        ("llama-3-405b", "llama3.1-405b"),
        ("meta-llama/Llama-3.1-405B", "llama3.1-405b"),
        ("LLAMA-3.1-405B", "llama3.1-405b"),
        ("llama-2-7b", "llama2-7b"),
        ("gpt-3-175b", "gpt3-175b"),
        ("gpt3", "gpt3-175b"),
        ("deepseek-ai/DeepSeek-V3", "deepseek-v3"),
        ("baichuan-inc/Baichuan-13B-Chat", "baichuan-13b"),
        ("Qwen/Qwen3-30B-A3B", "qwen3-30b-a3b"),
    ],
)
def test_an_alias_is_the_row_itself(alias, key):
    assert CATALOG.model(alias) == CATALOG.model(key)


def test_an_unknown_model_is_refused_with_the_nearest_names():
    with pytest.raises(UnknownName, match=r"llama-3\.1-405b.*crore catalog models"):
        CATALOG.model("llama-3.1-450b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "no source"),
        ({"source": "  "}, "no source"),
        ({"date": None}, "no date"),
        ({"date": "yesterday"}, "no date"),
        ({"verified": "yes"}, "verified"),
        ({"layres": 2}, "did you mean layers"),
        ({"layers": None}, "needs layers"),
        ({"layers": 0}, "layers"),
        ({"layers": 2.5}, "layers"),
        ({"layers": True}, "layers"),
        ({"gated_mlp": 1}, "gated_mlp"),
        ({"position": "sinusoid"}, "rope, alibi, learned, none"),
        ({"norm": "batch"}, "rms, layer"),
        ({"heads": 5}, "give head_dim"),
        ({"kv_heads": 3}, "kv_heads"),
        ({"position": "learned"}, "max_positions"),
        ({"max_positions": 8}, "max_positions"),
        ({"experts": 8, "moe_ffn": 64}, "topk"),
        ({"experts": 8, "topk": 9, "moe_ffn": 64}, "topk"),
        ({"experts": 8, "topk": 2}, "moe_ffn"),
        ({"first_dense": 3}, "first_dense"),
        ({"ffn": 0}, "no feed-forward"),
        ({"attention_every": 4}, "deltanet"),
        ({"global_every": 6}, "window"),
        ({"pattern": "M-M"}, "symbols"),
        ({"pattern": "XY"}, "allowed"),
        ({"pattern": "M-"}, "needs mamba"),
        ({"pattern": "E-"}, "needs experts"),
        ({"mla": 3}, "mla is a table"),
        ({"mla": {"kv_lora": 512}}, "needs q_lora"),
        ({"mamba": {"head": 4}}, "did you mean heads"),
        ({"figures": {"hiden": "a paper"}}, "did you mean hidden"),
    ],
)
def test_a_bad_row_is_refused_by_its_reason(change, message):
    row = {key: value for key, value in {**TINY, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message) as caught:
        build_model("mine", row)
    assert len(str(caught.value)) <= MAX_MESSAGE_CHARS
    assert "\n" not in str(caught.value)


def test_a_bare_year_or_day_is_a_date():
    assert build_model("mine", {**TINY, "date": 2025}).provenance.date == "2025"


@given(
    layers=st.integers(1, 200),
    kv_heads=st.integers(1, 16),
    groups=st.integers(1, 16),
    head_dim=st.integers(1, 256),
    ffn=st.integers(1, 10**6),
)
def test_a_row_of_positive_sizes_is_kept_as_written(layers, kv_heads, groups, head_dim, ffn):
    heads = kv_heads * groups
    sizes = {"layers": layers, "hidden": heads * head_dim, "heads": heads, "ffn": ffn}
    model = build_model("mine", {**TINY, **sizes, "kv_heads": kv_heads})
    assert (model.layers, model.kv_heads, model.head_dim) == (layers, kv_heads, head_dim)
    check_model("mine", model)
