"""Hugging Face folders come back tensor by tensor: split, stacked, folded; files go when asked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.serve.kinds import (
    CONTEXT,
    KINDS,
    VOCAB,
    as_model,
    balances,
    decoder,
    log_probabilities,
    prompts,
    tokenizer_folder,
)
from tests.serve.llama import witness

from crore.errors import InputError
from crore.model import build_decoder
from crore.serve.export import Model, export_gguf, export_hf
from crore.serve.importing import open_hf

SHARD = 60_000
EXACT = [name for name in KINDS if name not in ("mixture-tied", "one-expert")]
"""Those that need no idle expert, and so come back with the tensors they had."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    torch.set_num_threads(1)
    return tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def written(tokenizer, tmp_path):
    """Return a decoder and the folder it was written to, in several files."""

    def write(name="dense", **changes):
        module = decoder(replace(KINDS[name], **changes))
        export_hf(as_model(module, tokenizer), tmp_path / "hf", "f32", shard_bytes=SHARD)
        return module, tmp_path / "hf"

    return write


def rebuilt(source):
    """Return a decoder with the weights of an open folder."""
    model = build_decoder(source.spec, CONTEXT).to_empty(device="cpu").eval()
    model.tie()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.read(name))
        for name, buffer in balances(model):
            buffer.copy_(source.read(name))
    model.reset_positions(torch.arange(CONTEXT))
    return model


def pickled(folder):
    """Turn the files of a folder into the older `.bin`."""
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    index.unlink()
    for file in {*places.values()}:
        torch.save(load_file(folder / file), folder / file.replace(".safetensors", ".bin"))
        (folder / file).unlink()
    places = {name: file.replace(".safetensors", ".bin") for name, file in places.items()}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("name", EXACT)
def test_what_was_written_comes_back_to_the_bit(name, written):
    module, folder = written(name)
    source = open_hf(folder)
    held = dict(module.named_parameters()) | dict(balances(module))
    assert source.shapes == {name: tuple(held[name].shape) for name in source.shapes}
    assert source.shapes.keys() == held.keys()
    for name, weight in held.items():
        assert torch.equal(source.read(name), weight), name
    shape = replace(source.spec, name=module.spec.name, provenance=module.spec.provenance)
    unused = {"ffn": module.spec.ffn} if module.spec.experts else {}
    assert replace(shape, **unused) == module.spec
    assert source.context == CONTEXT


@pytest.mark.parametrize("name", ["mixture-tied", "one-expert"])
def test_an_idle_expert_changes_nothing(name, written):
    module, folder = written(name)
    tokens = prompts(10)
    found = log_probabilities(rebuilt(open_hf(folder)), tokens)
    assert torch.allclose(found, log_probabilities(module, tokens), atol=1e-5)


def test_pickled_files_are_read_too(written):
    module, folder = written("baichuan", layers=3)
    pickled(folder)
    source = open_hf(folder)
    for name, weight in module.named_parameters():
        assert torch.equal(source.read(name), weight), name


@pytest.mark.parametrize("bins", [False, True])
def test_files_are_fetched_when_needed_and_removed_when_done(bins, written, tokenizer, tmp_path):
    module, folder = written("alibi")
    if bins:
        pickled(folder)
    away = tmp_path / "away"
    away.mkdir()
    files = [*folder.glob("model-*.safetensors"), *folder.glob("*.bin")]
    for file in files:
        file.rename(away / file.name)
    seen = []

    def fetch(name):
        (away / name).rename(folder / name)
        seen.append(sum(1 for file in files if file.exists()))

    source = open_hf(folder, fetch=fetch, delete=True)
    model = Model(
        spec=source.spec, names=tuple(source.shapes), read=source.read, context=CONTEXT,
        tokenizer=tokenizer,
    )  # fmt: skip
    export_gguf(model, tmp_path / "m.gguf", "f32")
    source.close()
    assert len(seen) == len(files) > 3
    assert set(seen) == {1}  # never two of them on the disk
    assert not any(file.exists() for file in files)
    with witness(tmp_path / "m.gguf", CONTEXT) as held:
        found = held.log_probabilities(prompts(4), VOCAB)
    assert (found - log_probabilities(module, prompts(4))).abs().max() < 1e-3


def test_without_being_asked_no_file_is_removed(written):
    _, folder = written()
    before = sorted(folder.iterdir())
    source = open_hf(folder)
    for name in source.shapes:
        source.read(name)
    source.close()
    assert sorted(folder.iterdir()) == before


def test_a_file_that_lacks_one_read_is_kept(written):
    _, folder = written()
    source = open_hf(folder, delete=True)
    for name in [*source.shapes][:-1]:
        source.read(name)
    source.close()
    assert len(list(folder.glob("*.safetensors"))) == 1


def normed_head(hidden, weight):
    """Return logits as Baichuan 2's NormHead computes them: rows of length one."""
    return hidden @ (weight / weight.norm(dim=-1, keepdim=True)).T


def test_a_normed_head_is_folded(written):
    module, folder = written("baichuan", layers=3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"z_loss_weight": 0}))
    folded = open_hf(folder).read("head.weight")
    hidden = torch.randn(5, 32)
    expected = normed_head(hidden, module.head.weight)
    assert torch.allclose(hidden @ folded.T, expected, atol=1e-6)
    assert not torch.allclose(folded, module.head.weight, atol=1e-2)


def test_baichuan_7b_turns_and_needs_no_layout_of_its_own_elsewhere(written, tokenizer, tmp_path):
    """The 7B models are Llama's layers with W_pack; the file they are read from is fused."""
    module, folder = written("dense", kv_heads=4)
    whole: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        whole |= load_file(file)
        file.unlink()
    (folder / "model.safetensors.index.json").unlink()
    for layer in range(2):
        parts = [f"model.layers.{layer}.self_attn.{kind}_proj.weight" for kind in "qkv"]
        packed = torch.cat([whole.pop(name) for name in parts])
        whole[f"model.layers.{layer}.self_attn.W_pack.weight"] = packed
    whole["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "baichuan", "architectures": ["BaiChuanForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    source = open_hf(folder)
    for name, weight in module.named_parameters():
        assert torch.equal(source.read(name), weight), name
    model = replace(as_model(module, tokenizer), spec=source.spec, read=source.read)
    export_gguf(model, tmp_path / "m.gguf", "f32")
    with witness(tmp_path / "m.gguf", CONTEXT) as held:
        found = held.log_probabilities(prompts(4), VOCAB)
    assert (found - log_probabilities(module, prompts(4))).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "lacks"),
        ({"model_type": "gemma"}, "gemma is not imported; what is: llama"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rotary positions are scaled"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rotary positions are scaled"),
        ({"partial_rotary_factor": 0.5}, "it turns 0.5 of each head alone"),
        ({"hidden_act": "gelu"}, "gated by gelu"),
        ({"quantization_config": {"bits": 4}}, "its weights are quantised"),
        ({"num_hidden_layers": 3}, "lacks model.layers.2.input_layernorm.weight, one of 9"),
        ({"num_hidden_layers": 1}, "tensors that a LlamaForCausalLM has no place for"),
        ({"model_type": "baichuan"}, "its W_pack has 2 key heads beside 4"),
    ],
)
def test_what_is_not_computed_here_is_refused(change, said, written):
    _, folder = written()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=said):
        open_hf(folder)


def test_a_tensor_of_another_shape_is_refused(written):
    _, folder = written()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))
    source = open_hf(folder)
    with pytest.raises(InputError, match=r"gate_proj.weight is \[96, 64\], and .* \[128, 64\]"):
        source.read("layers.0.feed_forward.gate.weight")


def test_files_that_are_none_are_refused(written):
    _, folder = written()
    source = open_hf(folder)
    first = next(iter(source.shapes))
    for file in folder.glob("*.safetensors"):
        file.write_bytes(b"none")
    with pytest.raises(InputError, match="cannot be read"):
        source.read(first)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(InputError, match="the index names it"):
        source.read(first)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "../../x.safetensors"}}))
    with pytest.raises(InputError, match="names a file outside its folder"):
        open_hf(folder)
    index.write_text("{}")
    with pytest.raises(InputError, match="has no weight_map"):
        open_hf(folder)
    index.unlink()
    with pytest.raises(InputError, match="holds no weights: none of model"):
        open_hf(folder)
