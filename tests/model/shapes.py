"""Small shapes of every kind that the room builds, and decoders of them with their weights set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from crore.catalog import load_catalog
from crore.catalog.types import MLA, ModelSpec
from crore.model import build_decoder, initialise

NANO = load_catalog().model("nano-1m")
DENSE = replace(
    NANO, name="small", layers=2, hidden=32, heads=4, kv_heads=2, head_dim=8, ffn=48, vocab=64,
    tied_embeddings=False,
)  # fmt: skip
MIXTURE = replace(
    DENSE, name="small-mixture", layers=3, experts=6, topk=2, moe_ffn=16, shared_ffn=32,
    first_dense=1,
)  # fmt: skip
LATENT = replace(
    DENSE, name="small-latent", kv_heads=4,
    mla=MLA(q_lora=24, kv_lora=16, qk_nope=8, qk_rope=4, v=6),
)  # fmt: skip
ALIBI = replace(DENSE, name="small-alibi", position="alibi", kv_heads=4, heads=4)
WINDOWED = replace(DENSE, name="small-windowed", layers=4, window=5, window_every=2)
GPT = replace(
    DENSE, name="small-gpt", position="learned", max_positions=64, norm="layer", bias=True,
    gated_mlp=False, kv_heads=4, tied_embeddings=True,
)  # fmt: skip
PARALLEL = replace(DENSE, name="small-parallel", parallel_block=True, norm="layer", qkv_bias=True)
NORMED = replace(DENSE, name="small-normed", qk_norm=True)
BIASED_EXPERTS = replace(MIXTURE, name="small-biased-experts", bias=True, norm="layer")
FURTHER = replace(DENSE, name="small-further", mtp_layers=2)
KINDS = {
    spec.name.removeprefix("small-"): spec
    for spec in (DENSE, MIXTURE, LATENT, ALIBI, WINDOWED, GPT, PARALLEL, NORMED, BIASED_EXPERTS)
}
SEQ_LEN = 16


def made(spec: ModelSpec, seq_len: int = SEQ_LEN, *, seed: int = 0, mtp: bool = False) -> Any:
    """Return a whole decoder on the CPU with its weights from the seed."""
    model = build_decoder(spec, seq_len, mtp=mtp)
    model.to_empty(device="cpu")
    model.tie()
    initialise(model, seed)
    model.reset_positions(torch.arange(seq_len))
    return model


def tokens(spec: ModelSpec, sequences: int = 2, length: int = SEQ_LEN, *, seed: int = 1):
    """Return made-up tokens [sequences, length]."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, spec.vocab, (sequences, length), generator=draw)


def drawn(*shape: int, seed: int = 2):
    """Return normal numbers, the same for a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attend(q, k, v, bias):
    """Return softmax attention of [B, S, H, D] with a bias [H or 1, S, S], in double precision."""
    copies = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(copies, dim=2).double() for x in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k) / q.shape[-1] ** 0.5
    return torch.einsum("bhqk,bkhd->bqhd", (scores + bias.double()).softmax(-1), v)


def causal(length: int):
    """Return the bias [1, S, S] that hides what comes later."""
    return torch.full((1, length, length), -torch.inf).triu(1)
