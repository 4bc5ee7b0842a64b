"""A `config.json` gives the same shape as the catalogue's row of that model."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.catalog import load_catalog
from crore.catalog.hf_families import FAMILIES
from crore.errors import InputError

CATALOG = load_catalog()
# Key of the catalogue -> what the model's config.json says.
CONFIGS = json.loads(Path(__file__).with_name("hf_configs.json").read_text(encoding="utf-8"))
LLAMA = CONFIGS["llama3.2-1b"]


@pytest.fixture
def write(tmp_path):
    def _write(content, name="some-model"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "config.json").write_text(text, encoding="utf-8")
        return folder

    return _write


def shape(model):
    """Return the figures of a model without its name and source."""
    # The catalogue's rows leave out what no plan depends on.
    skipped = ("name", "provenance", "norm_epsilon", "rope_base", "router")
    return {f.name: getattr(model, f.name) for f in fields(model) if f.name not in skipped}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_the_shape_of_the_catalogues_row(write, name):
    row = CATALOG.model(name)
    if name.startswith("qwen3-next"):
        row = replace(row, mtp_layers=0)  # the released file does not mention the module
    assert shape(CATALOG.model(str(write(CONFIGS[name])))) == shape(row)


def test_what_only_running_a_model_needs_is_read_too(write):
    model = CATALOG.model(str(write({**CONFIGS["mixtral-8x7b"], "rms_norm_eps": 1e-4})))
    assert (model.norm_epsilon, model.rope_base, model.router) == (1e-4, 1e6, "softmax-topk")
    model = CATALOG.model(str(write({**LLAMA, "rope_parameters": {"rope_theta": 5e5}})))
    assert (model.norm_epsilon, model.rope_base, model.router) == (1e-6, 5e5, "sigmoid")


def test_a_folder_and_its_file_are_the_same_model(write):
    folder = write(LLAMA)
    model = CATALOG.model(str(folder))
    assert model == CATALOG.model(str(folder / "config.json"))
    assert model.name == "some-model"
    assert model.provenance.source == str(folder / "config.json")
    assert model.provenance.verified


def test_a_file_of_another_name_is_named_after_itself(tmp_path):
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(LLAMA), encoding="utf-8")
    assert CATALOG.model(str(file)).name == "tiny"


def test_a_window_as_long_as_the_sequence_is_none(write):
    config = CONFIGS["mistral-7b"] | {"max_position_embeddings": 4096}
    assert CATALOG.model(str(write(config))).window == 0


def test_leading_dense_layers_of_a_mixture_are_counted(write):
    config = CONFIGS["qwen3-30b-a3b"] | {"mlp_only_layers": [0, 1]}
    model = CATALOG.model(str(write(config)))
    assert (model.first_dense, model.ffn) == (2, 6144)


def test_attention_biases_alone_are_kept_apart_from_biases_everywhere(write):
    qkv = CATALOG.model(str(write(LLAMA | {"attention_bias": True})))
    both = CATALOG.model(str(write(LLAMA | {"attention_bias": True, "mlp_bias": True})))
    assert (qkv.qkv_bias, qkv.bias) == (True, False)
    assert (both.qkv_bias, both.bias) == (False, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LLAMA | {"model_type": "mamba"}, "architecture 'mamba' is not supported"),
        (LLAMA | {"model_type": "qwen4"}, "nearest: .*qwen3"),
        ({"hidden_size": 5}, "no model_type"),
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        (
            {"model_type": "llama", "hidden_size": 64},
            "lacks num_hidden_layers, num_attention_heads",
        ),
        (LLAMA | {"hidden_size": "wide"}, "hidden is a whole number"),
        (LLAMA | {"num_key_value_heads": 5}, "kv_heads 5"),
        (CONFIGS["qwen2.5-7b"] | {"use_sliding_window": True}, "use_sliding_window"),
        (CONFIGS["qwen3-30b-a3b"] | {"mlp_only_layers": [7]}, "mlp_only_layers"),
        (CONFIGS["deepseek-v3"] | {"moe_layer_freq": 2}, "moe_layer_freq"),
        (CONFIGS["opt-6.7b"] | {"word_embed_proj_dim": 512}, "word_embed_proj_dim"),
        (
            CONFIGS["gpt-oss-20b"]
            | {"layer_types": ["full_attention"] * 2 + ["sliding_attention"]},
            "every n-th",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_in_one_line(write, content, message):
    with pytest.raises(InputError, match=message) as caught:
        CATALOG.model(str(write(content, "m")))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 240


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.json"):
        CATALOG.model(str(tmp_path))
    with pytest.raises(InputError, match="no file or folder"):
        CATALOG.model(str(tmp_path / "config.json"))


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.dictionaries(
        st.sampled_from(
            [
                "hidden_size",
                "num_hidden_layers",
                "n_layer",
                "vocab_size",
                "num_attention_heads",
                "sliding_window",
                "layer_types",
                "num_experts",
                "attn_config",
                "text_config",
            ]
        ),
        st.one_of(
            st.none(),
            st.integers(-2, 99),
            st.text(max_size=3),
            st.lists(st.integers(), max_size=2),
            st.booleans(),
            st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        ),
    ),
)
def test_no_config_however_odd_raises_anything_but_an_input_error(tmp_path_factory, kind, content):
    file = tmp_path_factory.mktemp("odd") / "config.json"
    file.write_text(json.dumps({"model_type": kind, **content}), encoding="utf-8")
    with pytest.raises(InputError):
        CATALOG.model(str(file))
