"""A catalogue model in the words of Megatron-LM."""

from __future__ import annotations

from typing import Final

from crore.catalog.types import ModelSpec
from crore.errors import InputError
from crore.launch.launch import Launch

Arguments = list[str]
_POSITIONS: Final = {"rope": "rope", "learned": "learned_absolute", "none": "none"}
_NORMS: Final = {"rms": "RMSNorm", "layer": "LayerNorm"}


def refuse_model(spec: ModelSpec) -> None:
    """Raise InputError for an architecture that these arguments would not build."""
    faults = (
        (spec.position not in _POSITIONS, f"{spec.position} positions"),
        (bool(spec.pattern or spec.mamba), "a hybrid of mixers"),
        (spec.deltanet is not None and spec.attention_every > 1, "gated DeltaNet layers"),
        (spec.attention_gate, "a gate on attention"),
        (spec.parallel_block, "attention and feed-forward side by side"),
        (spec.window > 0, "attention windows"),
    )
    for wrong, what in faults:
        if wrong:
            raise InputError(
                f"{spec.name} has {what}, which crore does not write for Megatron-LM: launch it "
                "--to torchrun or slurm"
            )


def model_arguments(launch: Launch) -> list[Arguments]:
    """Return the arguments that build the model."""
    spec = launch.spec
    words = [
        ["--num-layers", str(spec.layers)], ["--hidden-size", str(spec.hidden)],
        ["--num-attention-heads", str(spec.heads)], ["--kv-channels", str(spec.head_dim)],
        ["--ffn-hidden-size", str(spec.ffn or spec.moe_ffn)], ["--vocab-size", str(spec.vocab)],
        ["--normalization", _NORMS[spec.norm]],
        ["--position-embedding-type", _POSITIONS[spec.position]],
        ["--max-position-embeddings", str(spec.max_positions or launch.seq_len)],
        ["--attention-dropout", "0"], ["--hidden-dropout", "0"],
    ]  # fmt: skip
    flags = (
        (spec.gated_mlp, "--swiglu"),
        (not spec.tied_embeddings, "--untie-embeddings-and-output-weights"),
        (not spec.bias, "--disable-bias-linear"),
        (spec.qkv_bias and not spec.bias, "--add-qkv-bias"),
        (spec.qk_norm, "--qk-layernorm"),
    )
    words += [[flag] for wanted, flag in flags if wanted]
    return words + _attention(spec) + _experts(spec, launch.layout.recompute)


def _attention(spec: ModelSpec) -> list[Arguments]:
    if spec.mla is not None:
        latent = spec.mla
        ranks = [["--q-lora-rank", str(latent.q_lora)]] if latent.q_lora else []
        return [
            ["--multi-latent-attention"], *ranks, ["--kv-lora-rank", str(latent.kv_lora)],
            ["--qk-head-dim", str(latent.qk_nope)], ["--qk-pos-emb-head-dim", str(latent.qk_rope)],
            ["--v-head-dim", str(latent.v)], ["--rope-type", "rope"],
        ]  # fmt: skip
    if spec.kv_heads < spec.heads:
        return [["--group-query-attention"], ["--num-query-groups", str(spec.kv_heads)]]
    return []


def _experts(spec: ModelSpec, recompute: str) -> list[Arguments]:
    words: list[Arguments] = []
    if spec.experts:
        words = [
            ["--num-experts", str(spec.experts)], ["--moe-router-topk", str(spec.topk)],
            ["--moe-ffn-hidden-size", str(spec.moe_ffn)], ["--moe-grouped-gemm"],
            ["--moe-token-dispatcher-type", "alltoall"], ["--moe-layer-freq", _frequency(spec)],
        ]  # fmt: skip
        if spec.shared_ffn:
            words.append(["--moe-shared-expert-intermediate-size", str(spec.shared_ffn)])
    if recompute == "light":
        modules = ["layernorm"]
        modules += ["moe_act"] if spec.experts else []
        modules += ["mla_up_proj"] if spec.mla else []
        words.append(["--recompute-modules", *modules])
    return words


def _frequency(spec: ModelSpec) -> str:
    """Return which layers are experts': the first are dense, then one in `moe_every`."""
    if not spec.first_dense:
        return str(spec.moe_every)
    rest = spec.layers - spec.first_dense
    if spec.moe_every == 1:
        return f"([0]*{spec.first_dense}+[1]*{rest})"
    row = [0] * spec.first_dense + [int(n % spec.moe_every == 0) for n in range(rest)]
    return str(row).replace(" ", "")
