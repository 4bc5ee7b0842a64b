"""A GGUF file computes what the model computes: llama.cpp is asked, for every layout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gguf import GGUFReader
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
from tests.serve.llama import witness

from crore.errors import InputError, UnknownName
from crore.serve.export import GGUF_TYPES, export_gguf

BITS = {"f32": 32, "f16": 16, "q8_0": 8.5, "q4_0": 4.5}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    torch.set_num_threads(1)
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


def told(module, tokenizer, path, dtype, tokens):
    """Export a decoder and return what llama.cpp says after each prompt."""
    export_gguf(as_model(module, tokenizer), path, dtype)
    with witness(path, CONTEXT) as held:
        return held.log_probabilities(tokens, VOCAB)


@pytest.mark.parametrize("name", KINDS)
def test_log_probabilities_are_the_models_in_32_bits(name, tokenizer, tmp_path):
    module, tokens = decoder(KINDS[name]), prompts(6)
    expected = log_probabilities(module, tokens)
    found = told(module, tokenizer, tmp_path / "model.gguf", "f32", tokens)
    assert (found - expected).abs().max() < 1e-3
    assert expected.std(-1).min() > 0.5  # a model that says something


@pytest.mark.parametrize("name", KINDS)
def test_the_likeliest_token_is_the_models_in_16_bits(name, tokenizer, tmp_path):
    module, tokens = decoder(KINDS[name]), prompts(100)
    expected = log_probabilities(module, tokens)
    found = told(module, tokenizer, tmp_path / "model.gguf", "f16", tokens)
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.99


def test_fewer_bits_say_nearly_the_same(tokenizer, tmp_path):
    """How far: the mean absolute error of a block's weights, ordered as the bits are."""
    module, tokens = decoder(KINDS["dense"]), prompts(24)
    expected = log_probabilities(module, tokens)
    errors = [
        (told(module, tokenizer, tmp_path / f"{dtype}.gguf", dtype, tokens) - expected)
        .abs().mean().item()
        for dtype in GGUF_TYPES
    ]  # fmt: skip
    assert errors == sorted(errors)
    assert errors[1] < 0.01
    assert errors[2] < 0.1
    assert errors[3] < 1.5


@pytest.mark.parametrize("dtype", GGUF_TYPES)
def test_matrices_take_the_bits_of_their_type_and_vectors_32(dtype, tokenizer, tmp_path):
    module, path = decoder(KINDS["mixture"]), tmp_path / "model.gguf"
    types = export_gguf(as_model(module, tokenizer), path, dtype)
    for tensor in GGUFReader(path).tensors:
        exact = len(tensor.shape) == 1 or "ffn_gate_inp" in tensor.name
        wanted = "q8_0" if (dtype, tensor.name) == ("q4_0", "output.weight") else dtype
        assert types[tensor.name] == ("f32" if exact else wanted), tensor.name
        assert tensor.tensor_type.name.lower() == types[tensor.name]
        assert tensor.n_bytes * 8 == tensor.n_elements * BITS[types[tensor.name]]


def test_rows_that_no_block_divides_stay_in_16_bits(tokenizer, tmp_path):
    spec = replace(KINDS["dense"], ffn=80)
    types = export_gguf(as_model(decoder(spec), tokenizer), tmp_path / "m.gguf", "q4_0")
    assert (types["blk.0.ffn_down.weight"], types["blk.0.ffn_up.weight"]) == ("f16", "q4_0")


def test_numbers_that_16_bits_cannot_hold_are_refused_and_no_file_is_left(tokenizer, tmp_path):
    module = decoder(KINDS["dense"])
    with torch.no_grad():
        module.layers["1"].attention.query.weight[3, 5] = 1e6
    with pytest.raises(InputError, match=r"blk\.1\.attn_q\.weight has numbers that f16 cannot"):
        export_gguf(as_model(module, tokenizer), tmp_path / "m.gguf", "f16")
    assert not list(tmp_path.iterdir())


def test_a_template_that_was_learned_is_in_the_file(tmp_path):
    folder = tokenizer_folder(tmp_path / "tokenizer")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    export_gguf(as_model(decoder(KINDS["dense"]), folder), tmp_path / "m.gguf", "f32")
    field = GGUFReader(tmp_path / "m.gguf").fields["tokenizer.chat_template"]
    assert field.contents() == "{{ messages[0]['content'] }}"


def test_the_window_bounds_the_context(tokenizer, tmp_path):
    export_gguf(as_model(decoder(KINDS["windowed"]), tokenizer), tmp_path / "m.gguf", "f32")
    fields = GGUFReader(tmp_path / "m.gguf").fields
    assert fields["llama.context_length"].contents() == 32


def test_what_has_no_form_is_refused(tokenizer, tmp_path):
    model = as_model(decoder(KINDS["dense"]), tokenizer)
    with pytest.raises(UnknownName, match="unknown type of GGUF weights 'q5'"):
        export_gguf(model, tmp_path / "m.gguf", "q5")
    with pytest.raises(InputError, match="latent attention"):
        export_gguf(replace(model, spec=latent()), tmp_path / "m.gguf", "f16")
    with pytest.raises(InputError, match="holds no tokenizer"):
        export_gguf(replace(model, tokenizer=tmp_path), tmp_path / "m.gguf", "f16")


def latent():
    from tests.model.shapes import LATENT

    return LATENT


def test_a_full_disk_is_one_line(tokenizer):
    model = as_model(decoder(KINDS["dense"]), tokenizer)
    with pytest.raises(InputError, match="cannot write"):
        export_gguf(model, tokenizer / "tokenizer.json" / "m.gguf", "f32")
