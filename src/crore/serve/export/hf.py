"""A folder as Hugging Face's libraries read it: configuration, safetensors, tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from crore.catalog.types import ModelSpec
from crore.errors import InputError, UnknownName
from crore.io import write_text
from crore.serve.export.model import Model, Tell, silent
from crore.serve.export.tokenizer import special_ids, write_tokenizer
from crore.serve.layouts import Layout, feed_forward_width, layout_of
from crore.serve.names import BALANCE, Link, idle_experts, links, shapes

HF_TYPES: Final = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
SHARD_BYTES: Final = 2_000_000_000
"""A file's tensors are in memory together while it is written."""
SINGLE: Final = "model.safetensors"
METADATA: Final = {"format": "pt"}


def export_hf(
    model: Model, folder: Path, dtype: str, *, tell: Tell = silent, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """Write a model into a folder, and return the files with its weights.

    `dtype` is one of `HF_TYPES`. Raises InputError for a model that no layout has, and for a folder
    that holds weights already or cannot be written.
    """
    if dtype not in HF_TYPES:
        raise UnknownName("type of Hugging Face weights", dtype, HF_TYPES)
    layout = layout_of(model.spec)
    _make(folder)
    write_tokenizer(model, folder)
    config = hf_config(model.spec, layout, model.context) | special_ids(folder)
    config["torch_dtype"] = str(HF_TYPES[dtype]).removeprefix("torch.")
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    return _write(folder, _dealt(_tensors(model, layout, HF_TYPES[dtype]), shard_bytes), tell)


def hf_config(spec: ModelSpec, layout: Layout, context: int) -> dict[str, Any]:
    """Return the `config.json` of a model, special tokens apart."""
    config: dict[str, Any] = {
        "architectures": [layout.architecture], "model_type": layout.family,
        "num_hidden_layers": spec.layers, "hidden_size": spec.hidden,
        "num_attention_heads": spec.heads, "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim, "intermediate_size": feed_forward_width(spec),
        "vocab_size": spec.vocab, "rms_norm_eps": spec.norm_epsilon, "hidden_act": "silu",
        "tie_word_embeddings": spec.tied_embeddings and layout.ties,
        "initializer_range": 0.02, "use_cache": True,
    }  # fmt: skip
    if spec.position == "rope":
        config |= {"rope_theta": spec.rope_base, "max_position_embeddings": context}
    else:
        config |= {"model_max_length": context}
    return config | _family_config(spec, layout)


def _family_config(spec: ModelSpec, layout: Layout) -> dict[str, Any]:
    if layout.family == "glm4_moe":
        return {
            "moe_intermediate_size": spec.moe_ffn, "n_routed_experts": spec.experts,
            "n_shared_experts": max(spec.shared_ffn // spec.moe_ffn, 1),
            "num_experts_per_tok": spec.topk,
            "first_k_dense_replace": spec.first_dense, "n_group": 1, "topk_group": 1,
            "routed_scaling_factor": 1.0, "norm_topk_prob": spec.topk > 1,
            "use_qk_norm": spec.qk_norm, "attention_bias": spec.qkv_bias,
            "partial_rotary_factor": 1.0, "num_nextn_predict_layers": 0,
        }  # fmt: skip
    by_family: dict[str, dict[str, Any]] = {
        "llama": {"attention_bias": False, "mlp_bias": False},
        "mistral": {"sliding_window": spec.window},
        "qwen2": {"use_sliding_window": False},
        "qwen3": {"use_sliding_window": False, "attention_bias": False},
        "mixtral": {
            "num_local_experts": spec.experts, "num_experts_per_tok": spec.topk,
            "sliding_window": None,
        },
        "qwen3_moe": {
            "num_experts": spec.experts, "num_experts_per_tok": spec.topk, "attention_bias": False,
            "moe_intermediate_size": spec.moe_ffn, "norm_topk_prob": True, "decoder_sparse_step": 1,
            "mlp_only_layers": [], "use_sliding_window": False,
        },
    }  # fmt: skip
    return by_family.get(layout.family, {})


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {str(folder)[-80:]}: {error.strerror}") from error
    if any(folder.glob("*.safetensors")):
        raise InputError(f"{str(folder)[-80:]} holds weights already: give another -o")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tensor:
    """One tensor of the files."""

    name: str
    size_bytes: int
    dtype: torch.dtype
    make: Callable[[], Tensor]


def _tensors(model: Model, layout: Layout, dtype: torch.dtype) -> Iterator[_Tensor]:
    """Yield the tensors of the files."""
    spec, known, read = model.spec, shapes(model.spec), _last_kept(model)
    theirs: dict[str, list[Link]] = {}
    for link in links(spec, layout):
        theirs.setdefault(link.theirs, []).append(link)
    for name, parts in theirs.items():
        elements = [math.prod(known[it.ours][0 if it.expert is None else 1 :]) for it in parts]
        kept = torch.float32 if parts[0].ours.endswith(BALANCE) else dtype
        yield _Tensor(
            name=name, size_bytes=sum(elements) * kept.itemsize, dtype=kept,
            make=partial(_joined, parts, read),
        )  # fmt: skip
    for name, _, shape in idle_experts(spec, layout):
        size_bytes = math.prod(shape) * dtype.itemsize
        make = partial(torch.zeros, shape)
        yield _Tensor(name=name, size_bytes=size_bytes, dtype=dtype, make=make)


def _dealt(tensors: Iterable[_Tensor], shard_bytes: int) -> list[list[_Tensor]]:
    """Return the tensors of each file."""
    shards: list[list[_Tensor]] = [[]]
    room = shard_bytes
    for it in tensors:
        if it.size_bytes > room and shards[-1]:
            shards.append([])
            room = shard_bytes
        shards[-1].append(it)
        room -= it.size_bytes
    return shards


def _write(folder: Path, shards: list[list[_Tensor]], tell: Tell) -> list[Path]:
    from safetensors.torch import save_file

    of_all, places, files = sum(map(len, shards)), {}, []
    for number, tensors in enumerate(shards, start=1):
        path = folder / _file_name(number, len(shards))
        held = {}
        for it in tensors:
            held[it.name] = it.make().to(it.dtype, copy=True).contiguous()
            places[it.name] = path.name
            tell(len(places), of_all)
        try:
            save_file(held, path, metadata=METADATA)
        except Exception as error:  # the library's own for a full disk
            raise InputError(f"cannot write {str(path)[-80:]}: {error}") from error
        path.chmod((folder / "config.json").stat().st_mode)  # the library lets its owner alone read
        files.append(path)
    if len(shards) > 1:
        total = sum(it.size_bytes for tensors in shards for it in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": places}
        write_text(folder / f"{SINGLE}.index.json", json.dumps(index, indent=2) + "\n")
    return files


def _file_name(number: int, of_all: int) -> str:
    return SINGLE if of_all == 1 else f"model-{number:05d}-of-{of_all:05d}.safetensors"


def _joined(parts: list[Link], read: Callable[[str], Tensor]) -> Tensor:
    found = [read(it.ours) if it.expert is None else read(it.ours)[it.expert] for it in parts]
    return found[0] if len(found) == 1 else torch.cat(found)


def _last_kept(model: Model) -> Callable[[str], Tensor]:
    """Return a reader that keeps what it read last: stacked experts are asked for one by one."""
    kept: dict[str, Tensor] = {}

    def read(name: str) -> Tensor:
        if name not in kept:
            kept.clear()
            kept[name] = model.read(name)
        return kept[name]

    return read
