"""Small models of every layout, with weights that matter, and a tokenizer that knows some words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from tests.model.shapes import DENSE, drawn, made

from crore.serve.export import Model
from crore.serve.names import shapes
from crore.train.data.tokenizer import END_OF_TEXT, train_tokenizer

VOCAB, CONTEXT = 384, 64
SIZE = replace(
    DENSE, layers=2, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, vocab=VOCAB,
    norm_epsilon=1e-6,
)  # fmt: skip
MIXED = replace(SIZE, experts=4, topk=2, moe_ffn=32)
KINDS = {
    spec.name: spec
    for spec in (
        replace(SIZE, name="dense"),
        replace(SIZE, name="tied", tied_embeddings=True, rope_base=500_000.0),
        replace(SIZE, name="wide-heads", head_dim=32, kv_heads=4),
        replace(SIZE, name="windowed", window=32),
        replace(SIZE, name="biased", qkv_bias=True),
        replace(SIZE, name="normed", qk_norm=True),
        replace(MIXED, name="mixture", shared_ffn=64, first_dense=1, layers=3),
        replace(MIXED, name="mixture-tied", tied_embeddings=True, qk_norm=True),
        replace(MIXED, name="one-expert", topk=1, qkv_bias=True),
        replace(MIXED, name="mixtral", router="softmax-topk"),
        replace(MIXED, name="qwen-mixture", router="softmax-topk", qk_norm=True),
        replace(SIZE, name="alibi", position="alibi", kv_heads=4),
        replace(SIZE, name="alibi-six-heads", position="alibi", heads=6, kv_heads=6),
        replace(SIZE, name="baichuan", position="alibi", kv_heads=4, layers=40, hidden=32,
                head_dim=8, ffn=32),
    )
}  # fmt: skip
TEXTS = (
    "Return the sum of the two numbers, or None where either is missing.\n", "for i in range(10):",
    "El veloz murciélago hindú", "你好，世界", "Привет, мир", "😀 naïve café", " \t\n  x=1",
)  # fmt: skip


def decoder(spec, *, seed: int = 3):
    """Return a decoder whose every parameter matters: norms, biases and balances too."""
    model = made(spec, CONTEXT, seed=seed).eval()
    with torch.no_grad():
        for number, (name, value) in enumerate((*model.named_parameters(), *balances(model))):
            noise = drawn(*value.shape, seed=number)
            if value.dim() == 1:
                value.add_(0.2 * noise)
            elif "router" in name:
                value.copy_(0.3 * noise)
            elif name in ("embedding.weight", "head.weight"):
                value.copy_((0.1 if spec.tied_embeddings else 0.5) * noise)
            else:
                value.mul_(2.0)
    return model


def balances(model):
    """Return the biases that choose experts, by name; softmax routers have none."""
    known = shapes(model.spec)
    return [(name, it) for name, it in model.named_buffers() if name in known]


def tokenizer_folder(folder: Path) -> Path:
    """Write a tokenizer of a few words; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(train_tokenizer(TEXTS, VOCAB - 20), encoding="utf-8")
    return folder


def as_model(module, tokenizer: Path) -> Model:
    """Return a decoder as an export takes it."""
    held = dict(module.named_parameters()) | dict(balances(module))
    return Model(
        spec=module.spec, names=tuple(shapes(module.spec)), context=CONTEXT, tokenizer=tokenizer,
        read=lambda name: held[name].detach(), end_of_text=END_OF_TEXT,
    )  # fmt: skip


def prompts(count: int, length: int = 24):
    """Return made-up prompts [count, length]."""
    draw = torch.Generator().manual_seed(11)
    return torch.randint(0, VOCAB - 20, (count, length), generator=draw)


@torch.no_grad()
def log_probabilities(module, tokens):
    """Return what the decoder says of the token after each prompt [count, length]: [count, V]."""
    return module(tokens)[:, -1].float().log_softmax(-1)
