"""A Hugging Face folder computes what the model computes: transformers is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tests.serve.kinds import (
    CONTEXT,
    KINDS,
    VOCAB,
    as_model,
    decoder,
    log_probabilities,
    prompts,
    tokenizer_folder,
)
from transformers import AutoModelForCausalLM, AutoTokenizer

from crore.errors import InputError, UnknownName
from crore.serve.export import export_hf
from crore.train.data.tokenizer import END_OF_TEXT

CLASSES = {
    "dense": "LlamaForCausalLM", "tied": "LlamaForCausalLM", "wide-heads": "LlamaForCausalLM",
    "windowed": "MistralForCausalLM", "biased": "Qwen2ForCausalLM", "normed": "Qwen3ForCausalLM",
    "mixture": "Glm4MoeForCausalLM", "mixture-tied": "Glm4MoeForCausalLM",
    "one-expert": "Glm4MoeForCausalLM", "mixtral": "MixtralForCausalLM",
    "qwen-mixture": "Qwen3MoeForCausalLM",
}  # fmt: skip
SHARD = 60_000


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    torch.set_num_threads(1)
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


def test_what_has_no_class_in_transformers_is_baichuan_alone():
    assert {KINDS[name].position for name in KINDS.keys() - CLASSES.keys()} == {"alibi"}


def told(module, tokenizer, folder, dtype, tokens):
    """Export a decoder and return what transformers' class of it says after each prompt, and it."""
    export_hf(as_model(module, tokenizer), folder, dtype, shard_bytes=SHARD)
    asked: Any = AutoModelForCausalLM
    theirs, report = asked.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values()), report
    with torch.no_grad():
        return theirs.eval()(tokens).logits[:, -1].log_softmax(-1), type(theirs).__name__


@pytest.mark.parametrize("name", CLASSES)
def test_transformers_says_what_the_model_says(name, tokenizer, tmp_path):
    module, tokens = decoder(KINDS[name]), prompts(100, length=40)
    expected = log_probabilities(module, tokens)
    found, kind = told(module, tokenizer, tmp_path / "exact", "f32", tokens)
    assert kind == CLASSES[name]
    assert (found - expected).abs().max() < 1e-3
    half, _ = told(module, tokenizer, tmp_path / "half", "f16", tokens)
    assert (half.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.99


def test_a_tokenizer_gives_transformers_the_same_ids_and_the_end(tokenizer, tmp_path):
    export_hf(as_model(decoder(KINDS["dense"]), tokenizer), tmp_path, "f16")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["eos_token_id"] == theirs.eos_token_id == 0
    assert theirs.eos_token == END_OF_TEXT
    text = "Return the naïve sum, мир 你好 😀"
    assert theirs.decode(theirs(text)["input_ids"]) == text


def test_a_template_that_was_learned_goes_along(tmp_path):
    folder = tokenizer_folder(tmp_path / "tokenizer")
    (folder / "chat_template.jinja").write_text("<{{ messages[0]['content'] }}>")
    export_hf(as_model(decoder(KINDS["dense"]), folder), tmp_path / "out", "f16")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = [{"role": "user", "content": "why"}]
    assert theirs.apply_chat_template(asked, tokenize=False) == "<why>"


def test_files_are_of_one_size_and_the_index_says_which_has_what(tokenizer, tmp_path):
    files = export_hf(as_model(decoder(KINDS["dense"]), tokenizer), tmp_path, "f32",
                      shard_bytes=SHARD)  # fmt: skip
    assert len(files) > 3
    assert {file.stat().st_mode for file in files} == {(tmp_path / "config.json").stat().st_mode}
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    found: dict[str, str] = {}
    total = 0
    for file in files:
        with safe_open(file, framework="pt") as held:
            tensors = [held.get_tensor(name) for name in held.keys()]  # noqa: SIM118 - no mapping
            found |= dict.fromkeys(held.keys(), file.name)
        size = sum(it.nbytes for it in tensors)
        total += size
        assert size <= SHARD or len(tensors) == 1
    assert found == index["weight_map"]
    assert total == index["metadata"]["total_size"]


def test_baichuan_has_its_own_names_and_configuration(tokenizer, tmp_path):
    export_hf(as_model(decoder(KINDS["alibi"]), tokenizer), tmp_path, "f32")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BaichuanForCausalLM"]
    assert (config["model_type"], config["model_max_length"]) == ("baichuan", CONTEXT)
    assert "max_position_embeddings" not in config
    with safe_open(tmp_path / "model.safetensors", framework="pt") as held:
        packed = held.get_tensor("model.layers.1.self_attn.W_pack.weight")
        assert list(packed.shape) == [3 * 64, 64]
        assert list(held.get_tensor("lm_head.weight").shape) == [VOCAB, 64]


def test_a_head_that_a_layout_cannot_tie_is_written_twice(tokenizer, tmp_path):
    spec = replace(KINDS["alibi"], tied_embeddings=True)
    export_hf(as_model(decoder(spec), tokenizer), tmp_path, "f32")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as held:
        tables = [held.get_tensor(name) for name in ("model.embed_tokens.weight", "lm_head.weight")]
    assert torch.equal(*tables)


def test_what_makes_no_sense_is_refused(tokenizer, tmp_path):
    model = as_model(decoder(KINDS["dense"]), tokenizer)
    with pytest.raises(UnknownName, match="unknown type of Hugging Face weights 'q4_0'"):
        export_hf(model, tmp_path, "q4_0")
    export_hf(model, tmp_path / "out", "f32")
    with pytest.raises(InputError, match="holds weights already"):
        export_hf(model, tmp_path / "out", "f32")
    with pytest.raises(InputError, match="cannot write"):
        export_hf(model, tokenizer / "tokenizer.json" / "out", "f32")
