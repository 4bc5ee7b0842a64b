"""What each Hugging Face architecture calls its sizes, and what its class assumes when silent.

Every function takes the content of a `config.json` and returns a row of the model catalogue. The
assumptions are those of the configuration class of that architecture in
huggingface/transformers `src/transformers/models/*/configuration_*.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crore.errors import InputError

Figures = dict[str, Any]
Json = Any  # what json.loads returns; the row builder checks every value


class Config:
    """The content of one `config.json`, with a label for messages."""

    def __init__(self, label: str, data: Mapping[str, Any]) -> None:
        self.label = label
        self.data = data

    def need(self, *keys: str) -> list[Any]:
        """Return the values of `keys` (`a|b`: either); InputError names the missing ones."""
        found = [next((self.data[k] for k in key.split("|") if self.has(k)), None) for key in keys]
        missing = [key for key, value in zip(keys, found, strict=True) if value is None]
        if missing:
            raise InputError(f"{self.label} lacks {', '.join(missing)}"[:240])
        return found

    def get(self, key: str, default: Json = None) -> Json:
        """Return the value of `key`, or `default` when it is absent or null."""
        return self.data[key] if self.has(key) else default

    def has(self, key: str) -> bool:
        """Return whether `key` is present and not null."""
        return self.data.get(key) is not None

    def refuse(self, reason: str) -> InputError:
        """Return the error for a shape that a `ModelSpec` cannot say."""
        return InputError(f"{self.label}: {reason}"[:240])


def _decoder(cfg: Config, **over: Json) -> Figures:
    """Llama's layout: SwiGLU, RMSNorm, rotary positions, no biases; `over` says what differs."""
    layers, hidden, heads, ffn, vocab = cfg.need(
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
    )
    row: Figures = {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": cfg.get("num_key_value_heads", heads),
        "ffn": ffn,
        "vocab": vocab,
        "gated_mlp": True,
        "tied_embeddings": cfg.get("tie_word_embeddings", False),
        "bias": False,
        "position": "rope",
        "norm": "rms",
    }
    if cfg.has("head_dim"):
        row["head_dim"] = cfg.get("head_dim")
    # Classes with LayerNorm have names of their own for it; 1e-5 is what they assume.
    norms = {"norm_epsilon": cfg.get("rms_norm_eps", 1e-6), "rope_base": rope_base(cfg)}
    return {**row, **(norms if over.get("norm", "rms") == "rms" else {}), **over}


def rope_base(cfg: Config, default: float = 10_000.0) -> Json:
    """Return the base of the rotary angles; transformers 5 keeps it one level down."""
    inside = Config(cfg.label, cfg.get("rope_parameters", {}))
    return inside.get("rope_theta", cfg.get("rope_theta", default))


def _windows(cfg: Config, every: int = 1) -> Figures:
    """Return the sliding-window figures; `every` is the class's pattern: all (1) or one in n.

    2 means that every other layer has the window; a larger n that one in n has not.
    """
    window = cfg.get("sliding_window", 0)
    if window >= cfg.get("max_position_embeddings", window + 1):
        window = 0
    if cfg.has("layer_types") and window:
        every = _stride(cfg, [kind == "full_attention" for kind in cfg.get("layer_types")])
    if not window or not every:
        return {}
    if every <= 2:
        return {"window": window, "window_every": every}
    return {"window": window, "global_every": every}


def _stride(cfg: Config, full: list[bool]) -> int:
    """Return n when exactly every n-th layer has full attention; 1 for none of them, 0 for all."""
    if all(full):
        return 0
    if not any(full):
        return 1
    stride = full.index(True) + 1
    if any(is_full != ((i + 1) % stride == 0) for i, is_full in enumerate(full)):
        raise cfg.refuse("its full-attention layers are not every n-th one")
    return stride


def _llama(cfg: Config) -> Figures:
    attention, mlp = cfg.get("attention_bias", False), cfg.get("mlp_bias", False)
    return _decoder(cfg, bias=attention and mlp, qkv_bias=attention and not mlp)


def _mistral(cfg: Config) -> Figures:
    return _decoder(cfg, **_windows(cfg))


def _mixtral(cfg: Config) -> Figures:
    experts, topk, width = cfg.need("num_local_experts", "num_experts_per_tok", "intermediate_size")
    row = _decoder(cfg, ffn=0, **_windows(cfg))
    return {
        **row, "experts": experts, "topk": topk, "moe_ffn": width, "router": "softmax-topk",
        "norm_epsilon": cfg.get("rms_norm_eps", 1e-5), "rope_base": rope_base(cfg, 1e6),
    }  # fmt: skip


def _qwen2(cfg: Config) -> Figures:
    if cfg.get("use_sliding_window", False):
        raise cfg.refuse("use_sliding_window windows its last layers only, which is not modelled")
    return _decoder(cfg, qkv_bias=True)


def _qwen3(cfg: Config) -> Figures:
    row = _decoder(cfg, qk_norm=True, qkv_bias=cfg.get("attention_bias", False))
    return {"head_dim": 128, **row}


def _qwen_moe(cfg: Config, **over: Json) -> Figures:
    experts, topk, width = cfg.need("num_experts", "num_experts_per_tok", "moe_intermediate_size")
    stride = cfg.get("decoder_sparse_step", 1)
    dense = cfg.get("mlp_only_layers", [])
    if dense != list(range(len(dense))):
        raise cfg.refuse(f"mlp_only_layers {dense} are not its leading layers")
    row = _decoder(cfg, **over)
    if stride == 1 and not dense:
        row["ffn"] = 0
    return {
        **row, "experts": experts, "topk": topk, "moe_ffn": width, "moe_every": stride,
        "first_dense": len(dense), "shared_ffn": cfg.get("shared_expert_intermediate_size", 0),
        "router": _softmax(cfg),
    }  # fmt: skip


def _softmax(cfg: Config) -> str:
    return "softmax-topk" if cfg.get("norm_topk_prob", False) else "softmax"


def _qwen2_moe(cfg: Config) -> Figures:
    return _qwen_moe(cfg, qkv_bias=cfg.get("qkv_bias", True))


def _qwen3_moe(cfg: Config) -> Figures:
    return _qwen_moe(cfg, qk_norm=True, qkv_bias=cfg.get("attention_bias", False))


def _qwen3_next(cfg: Config) -> Figures:
    keys = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim", "conv_kernel_dim")
    sizes = cfg.need(*(f"linear_{key}" for key in keys))
    names = ("key_heads", "value_heads", "key_dim", "value_dim", "conv")
    row = _qwen_moe(cfg, qk_norm=True, attention_gate=True)
    every = cfg.get("full_attention_interval", 4)
    return {**row, "attention_every": every, "deltanet": dict(zip(names, sizes, strict=True))}


def _shared_moe(cfg: Config) -> Figures:
    """Return DeepSeek's mixture: routed and shared experts of one width after dense layers."""
    experts, topk, width = cfg.need(
        "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"
    )
    if cfg.get("moe_layer_freq", 1) != 1:
        raise cfg.refuse("moe_layer_freq other than 1 is not modelled")
    return {
        "experts": experts,
        "topk": topk,
        "moe_ffn": width,
        "shared_ffn": cfg.get("n_shared_experts", 0) * width,
        "first_dense": cfg.get("first_k_dense_replace", 0),
        "mtp_layers": cfg.get("num_nextn_predict_layers", 0),
    }


def _deepseek(cfg: Config) -> Figures:
    return {**_decoder(cfg), **_shared_moe(cfg)}


def _deepseek_mla(cfg: Config) -> Figures:
    kv_lora, nope, rope, value = cfg.need(
        "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"
    )
    ranks = {"q_lora": cfg.get("q_lora_rank", 0), "kv_lora": kv_lora}
    row = {**_decoder(cfg), **_shared_moe(cfg)}
    # transformers stores the rotary size as head_dim here; with latent attention it says nothing.
    row.pop("head_dim", None)
    heads = {"kv_heads": row["heads"], "head_dim": value}
    return {**row, **heads, "mla": {**ranks, "qk_nope": nope, "qk_rope": rope, "v": value}}


def _glm4_moe(cfg: Config) -> Figures:
    bias, norm = cfg.get("attention_bias", False), cfg.get("use_qk_norm", False)
    return {**_decoder(cfg, qkv_bias=bias, qk_norm=norm), **_shared_moe(cfg)}


def _llama4(cfg: Config) -> Figures:
    experts, topk, width, dense = cfg.need(
        "num_local_experts", "num_experts_per_tok", "intermediate_size", "intermediate_size_mlp"
    )
    stride = cfg.get("interleave_moe_layer_step", 1)
    if stride == 0:
        return _decoder(cfg, ffn=dense)
    row = _decoder(cfg, ffn=dense if stride > 1 else 0, moe_every=stride)
    return {**row, "experts": experts, "topk": topk, "moe_ffn": width, "shared_ffn": width}


def _gpt_oss(cfg: Config) -> Figures:
    experts, topk, width = cfg.need("num_local_experts", "num_experts_per_tok", "intermediate_size")
    row = _decoder(cfg, ffn=0, bias=cfg.get("attention_bias", True), **_windows(cfg, every=2))
    return {"head_dim": 64, **row, "experts": experts, "topk": topk, "moe_ffn": width}


def _olmo2(cfg: Config) -> Figures:
    return _decoder(cfg, qk_norm=True, qkv_bias=cfg.get("attention_bias", False))


def _olmoe(cfg: Config) -> Figures:
    experts, topk, width = cfg.need("num_experts", "num_experts_per_tok", "intermediate_size")
    row = {**_olmo2(cfg), "ffn": 0, "router": _softmax(cfg)}
    return {**row, "experts": experts, "topk": topk, "moe_ffn": width}


def _gemma(cfg: Config, **over: Json) -> Figures:
    row = _decoder(cfg, tied_embeddings=cfg.get("tie_word_embeddings", True), **over)
    return {"head_dim": 256, **row}


def _gemma2(cfg: Config) -> Figures:
    return _gemma(cfg, **_windows(cfg, every=2))


def _gemma3(cfg: Config) -> Figures:
    # The released files leave out whatever equals these defaults of Gemma3TextConfig.
    defaults = {"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208}
    full = Config(cfg.label, {**defaults, **cfg.data})
    pattern = full.get("sliding_window_pattern", 6)
    return _gemma(full, qk_norm=True, **_windows(full, every=pattern))


def _baichuan(cfg: Config) -> Figures:
    # Only the 7B files name a rotary range; the 13B ones, whose positions are ALiBi, do not.
    return _decoder(cfg, position="rope" if cfg.has("max_position_embeddings") else "alibi")


def _starcoder2(cfg: Config) -> Figures:
    over = {"gated_mlp": False, "norm": "layer", "bias": cfg.get("use_bias", True)}
    tied = cfg.get("tie_word_embeddings", True)
    return _decoder(cfg, tied_embeddings=tied, **over, **_windows(cfg))


def _nemotron(cfg: Config) -> Figures:
    return _decoder(cfg, gated_mlp=False, norm="layer")


def _cohere(cfg: Config) -> Figures:
    tied, qk_norm = cfg.get("tie_word_embeddings", True), cfg.get("use_qk_norm", False)
    return _decoder(cfg, norm="layer", parallel_block=True, tied_embeddings=tied, qk_norm=qk_norm)


def _phi(cfg: Config) -> Figures:
    return _decoder(cfg, gated_mlp=False, norm="layer", bias=True, parallel_block=True)


def _gpt_neox(cfg: Config) -> Figures:
    parallel, bias = cfg.get("use_parallel_residual", True), cfg.get("attention_bias", True)
    return _decoder(cfg, gated_mlp=False, norm="layer", bias=bias, parallel_block=parallel)


def _gpt2(cfg: Config) -> Figures:
    layers, hidden, heads, vocab, positions = cfg.need(
        "n_layer", "n_embd", "n_head", "vocab_size", "n_positions|n_ctx"
    )
    return _plain(cfg, layers, hidden, heads, vocab, cfg.get("n_inner", 4 * hidden)) | {
        "position": "learned",
        "max_positions": positions,
    }


def _opt(cfg: Config) -> Figures:
    layers, hidden, heads, vocab, ffn, positions = cfg.need(
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "vocab_size",
        "ffn_dim",
        "max_position_embeddings",
    )
    if cfg.get("word_embed_proj_dim", hidden) != hidden:
        raise cfg.refuse("word_embed_proj_dim other than hidden_size is not modelled")
    # OPT's table has two rows more than it has positions.
    return _plain(cfg, layers, hidden, heads, vocab, ffn) | {
        "position": "learned",
        "max_positions": positions + 2,
        "bias": cfg.get("enable_bias", True),
    }


def _bloom(cfg: Config) -> Figures:
    layers, hidden, heads, vocab = cfg.need(
        "n_layer|num_hidden_layers",
        "hidden_size|n_embed",
        "n_head|num_attention_heads",
        "vocab_size",
    )
    return _plain(cfg, layers, hidden, heads, vocab, 4 * hidden) | {"position": "alibi"}


def _falcon(cfg: Config) -> Figures:
    layers, hidden, heads, vocab = cfg.need(
        "num_hidden_layers|n_layer", "hidden_size", "num_attention_heads|n_head", "vocab_size"
    )
    kv_heads = 1 if cfg.get("multi_query", True) else heads
    if cfg.get("new_decoder_architecture", False):
        kv_heads = cfg.get("num_kv_heads", cfg.get("n_head_kv", heads))
    ffn = cfg.get("ffn_hidden_size", 4 * hidden)
    return _plain(cfg, layers, hidden, heads, vocab, ffn) | {
        "kv_heads": kv_heads,
        "bias": cfg.get("bias", False),
        "position": "alibi" if cfg.get("alibi", False) else "rope",
        "parallel_block": cfg.get("parallel_attn", True),
    }


def _mpt(cfg: Config) -> Figures:
    layers, hidden, heads, vocab = cfg.need("n_layers", "d_model", "n_heads", "vocab_size")
    attention = Config(cfg.label, cfg.get("attn_config", {}))
    row = _plain(cfg, layers, hidden, heads, vocab, cfg.get("expansion_ratio", 4) * hidden)
    one = attention.get("attn_type") == "multiquery_attention"
    row["kv_heads"] = 1 if one else attention.get("kv_n_heads", heads)
    row["bias"] = not cfg.get("no_bias", True)
    if attention.get("alibi", True):
        return row | {"position": "alibi"}
    return row | {"position": "learned", "max_positions": cfg.get("max_seq_len", 2048)}


def _plain(cfg: Config, layers: int, hidden: int, heads: int, vocab: int, ffn: int) -> Figures:
    """GPT's layout: two-matrix MLP, LayerNorm, biases, tied embeddings."""
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "ffn": ffn,
        "vocab": vocab,
        "gated_mlp": False,
        "tied_embeddings": cfg.get("tie_word_embeddings", True),
        "bias": True,
        "norm": "layer",
    }


FAMILIES: Mapping[str, Callable[[Config], Figures]] = {
    **dict.fromkeys(("llama", "granite", "internlm2", "smollm3", "Yi"), _llama),
    **dict.fromkeys(("mistral", "phi3"), _mistral),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2"), _deepseek_mla),
    **dict.fromkeys(("llama4", "llama4_text"), _llama4),
    **dict.fromkeys(("gemma3", "gemma3_text"), _gemma3),
    **dict.fromkeys(("falcon", "RefinedWeb", "RefinedWebModel"), _falcon),
    "baichuan": _baichuan,
    "bloom": _bloom,
    "cohere": _cohere,
    "deepseek": _deepseek,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "glm4_moe": _glm4_moe,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "gpt_oss": _gpt_oss,
    "mixtral": _mixtral,
    "mpt": _mpt,
    "nemotron": _nemotron,
    "olmo2": _olmo2,
    "olmoe": _olmoe,
    "opt": _opt,
    "phi": _phi,
    "qwen2": _qwen2,
    "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "qwen3_next": _qwen3_next,
    "starcoder2": _starcoder2,
}
