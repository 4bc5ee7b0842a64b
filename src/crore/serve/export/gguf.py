"""A GGUF file of llama.cpp: header, vocabulary, and tensors one after the other.

X: experts, O/I: rows and columns of a matrix.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from crore.catalog.types import ModelSpec
from crore.errors import InputError, UnknownName
from crore.serve.export.model import Model, Tell, silent
from crore.serve.export.tokenizer import write_tokenizer
from crore.serve.export.vocabulary import read_vocabulary
from crore.serve.layouts import Layout, feed_forward_width, gguf_architecture, layout_of
from crore.serve.names import ROUTER, gguf_name, idle_experts, shapes

GGUF_TYPES: Final = ("f32", "f16", "q8_0", "q4_0")
"""What matrices are stored in: 32, 16, 8.5 and 4.5 bits a weight. Vectors and routers stay in 32;
beside q4_0 the head takes 8.5, because every answer goes through it."""


def export_gguf(model: Model, path: Path, dtype: str, *, tell: Tell = silent) -> dict[str, str]:
    """Write a model as one GGUF file, and return the type of each tensor in it.

    Tensors are read, converted and written one at a time. The file appears when it is whole.
    Raises InputError for a model that no layout has, and where the disk refuses.
    """
    if dtype not in GGUF_TYPES:
        raise UnknownName("type of GGUF weights", dtype, GGUF_TYPES)
    layout = layout_of(model.spec)
    draft = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed(draft):
            types = _write(model, layout, draft, dtype, tell)
            draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {str(path)[-80:]}: {error.strerror or error}") from error
    return {name: kind.name.lower() for name, kind in types.items()}


@contextlib.contextmanager
def _removed(draft: Path) -> Iterator[None]:
    """Leave no draft behind."""
    try:
        yield
    finally:
        draft.unlink(missing_ok=True)


def _write(model: Model, layout: Layout, path: Path, dtype: str, tell: Tell) -> dict[str, Any]:
    from gguf import GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(path, gguf_architecture(model.spec, layout))
    _shape_keys(writer, model, layout, dtype)
    _vocabulary_keys(writer, model)
    tensors = list(_tensors(model, layout))
    types = {it.name: _type(it, dtype, model.spec) for it in tensors}
    for it in tensors:
        kind = types[it.name]
        size = _bytes(it.shape, kind)
        writer.add_tensor_info(it.name, it.shape, np.dtype(np.float32), size, raw_dtype=kind)
    with contextlib.closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, it in enumerate(tensors, start=1):
            with np.errstate(over="ignore"):  # told below, with what to do
                packed = quantize(it.make().float().numpy(), types[it.name])
            _check_finite(packed, it.name, dtype)
            writer.write_tensor_data(packed)
            tell(done, len(tensors))
    return types


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tensor:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    exact: bool
    """Stays in 32 bits."""
    make: Callable[[], Tensor]


def _tensors(model: Model, layout: Layout) -> Iterator[_Tensor]:
    """Yield the tensors of the file, in the order in which the model's are best read."""
    spec, known = model.spec, shapes(model.spec)
    for ours in model.names:
        yield _Tensor(
            name=gguf_name(ours, layout), shape=known[ours],
            exact=len(known[ours]) == 1 or ours.endswith(ROUTER),
            make=partial(_read_turned, model, ours, layout),
        )  # fmt: skip
    if spec.tied_embeddings and not layout.ties:
        yield _Tensor(
            name="output.weight", shape=(spec.vocab, spec.hidden), exact=False,
            make=partial(model.read, "embedding.weight"),
        )  # fmt: skip
    for _, name, shape in idle_experts(spec, layout):
        yield _Tensor(name=name, shape=shape, exact=False, make=partial(torch.zeros, shape))


def _type(it: _Tensor, dtype: str, spec: ModelSpec) -> Any:
    """Return the GGML type that a tensor is stored in."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if it.exact:
        return GGMLQuantizationType.F32
    head = it.name == ("token_embd.weight" if spec.tied_embeddings else "output.weight")
    wanted = GGMLQuantizationType[("q8_0" if head and dtype == "q4_0" else dtype).upper()]
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if it.shape[-1] % block == 0 else GGMLQuantizationType.F16


def _bytes(shape: tuple[int, ...], kind: Any) -> int:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // int(block) * int(size)


def _read_turned(model: Model, ours: str, layout: Layout) -> Tensor:
    """Return a tensor, queries and keys in the order that the reader turns them in.

    Ours turn number i of a head with number i + half; an interleaved reader turns 2i with 2i + 1.
    """
    whole, spec = model.read(ours), model.spec
    heads = {"query": spec.heads, "key": spec.kv_heads}.get(_projection(ours), 0)
    if not layout.interleaved or spec.position != "rope" or not heads:
        return whole
    turned: Tensor = whole.unflatten(0, (heads, 2, -1)).transpose(1, 2)
    return turned.reshape(whole.shape)


def _projection(ours: str) -> str:
    return ours.split(".")[-2] if ".attention." in ours else ""


def _check_finite(packed: Any, name: str, dtype: str) -> None:
    if packed.dtype in (np.float16, np.float32) and not np.isfinite(packed).all():
        raise InputError(
            f"{name} has numbers that {dtype} cannot hold (beyond 65,504, or none): export as f32"
        )


def _shape_keys(writer: Any, model: Model, layout: Layout, dtype: str) -> None:
    from gguf import LlamaFileType

    spec = model.spec
    writer.add_name(spec.name)
    writer.add_file_type({"f32": LlamaFileType.ALL_F32, "f16": LlamaFileType.MOSTLY_F16,
                          "q8_0": LlamaFileType.MOSTLY_Q8_0,
                          "q4_0": LlamaFileType.MOSTLY_Q4_0}[dtype])  # fmt: skip
    writer.add_quantization_version(2)
    writer.add_vocab_size(spec.vocab)
    # llama.cpp gives this architecture no window: up to the window both are the same.
    writer.add_context_length(min(model.context, spec.window or model.context))
    writer.add_embedding_length(spec.hidden)
    writer.add_block_count(spec.layers)
    writer.add_feed_forward_length(feed_forward_width(spec))
    writer.add_head_count(spec.heads)
    writer.add_head_count_kv(spec.kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.norm_epsilon)
    writer.add_rope_dimension_count(spec.head_dim)
    if spec.position == "rope":
        writer.add_rope_freq_base(spec.rope_base)
    else:
        writer.add_max_alibi_bias(8.0)
    if spec.experts:
        _expert_keys(writer, spec, layout)


def _expert_keys(writer: Any, spec: ModelSpec, layout: Layout) -> None:
    from gguf import ExpertGatingFuncType

    writer.add_expert_count(spec.experts)
    writer.add_expert_used_count(spec.topk)
    writer.add_expert_feed_forward_length(spec.moe_ffn)
    writer.add_expert_weights_norm(spec.router == "softmax-topk" or spec.topk > 1)
    if layout.family == "glm4_moe":
        writer.add_expert_shared_count(max(spec.shared_ffn // spec.moe_ffn, 1))
        writer.add_leading_dense_block_count(spec.first_dense)
        writer.add_expert_gating_func(ExpertGatingFuncType.SIGMOID)
        writer.add_expert_weights_scale(1.0)


def _vocabulary_keys(writer: Any, model: Model) -> None:
    from gguf import SpecialVocab

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(model, folder)
        found = read_vocabulary(folder, model.spec.vocab)
        writer.add_tokenizer_model(found.kind)
        writer.add_tokenizer_pre(found.pre)
        writer.add_token_list(found.tokens)
        writer.add_token_types(found.types)
        if found.scores:
            writer.add_token_scores(found.scores)
        if found.space_prefix is not None:
            writer.add_add_space_prefix(found.space_prefix)
        special = SpecialVocab(folder, load_merges=found.kind == "gpt2", n_vocab=model.spec.vocab)
        special.add_to_gguf(writer, quiet=True)
