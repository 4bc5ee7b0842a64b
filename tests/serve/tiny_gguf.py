"""A language model of some thousand weights as a GGUF file: random, so it babbles, but it runs."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH, FFN, HEADS, LAYERS = 64, 128, 4, 2
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")


def byte_tokens() -> list[str]:
    """Return the 256 bytes as GPT-2's tokenizer writes them: printable ones as they are."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in kept]
    shown = {byte: chr(byte) for byte in kept}
    shown |= {byte: chr(256 + i) for i, byte in enumerate(other)}
    return [shown[byte] for byte in range(256)]


def write_tiny(
    path: Path, *, context: int = 256, chats: bool = True, endless: bool = False,
    width: int = WIDTH, layers: int = LAYERS,
) -> Path:  # fmt: skip
    """Write the model to `path`; with a chat template where it `chats`.

    An `endless` one never says that its answer is over.
    """
    tokens = [*byte_tokens(), "he", *SPECIAL]
    made = gguf.GGUFWriter(path, "llama")
    made.add_context_length(context)
    made.add_embedding_length(width)
    made.add_block_count(layers)
    made.add_feed_forward_length(2 * width)
    made.add_head_count(HEADS)
    made.add_head_count_kv(HEADS)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_rope_dimension_count(width // HEADS)
    made.add_vocab_size(len(tokens))
    made.add_tokenizer_model("gpt2")
    made.add_tokenizer_pre("gpt-2")
    made.add_token_list(tokens)
    control = [gguf.TokenType.CONTROL] * len(SPECIAL)
    made.add_token_types([*[gguf.TokenType.NORMAL] * (len(tokens) - len(SPECIAL)), *control])
    made.add_token_merges(["h e"])
    made.add_eos_token_id(tokens.index("<|end|>"))
    made.add_bos_token_id(tokens.index("<|end|>"))
    made.add_add_bos_token(False)
    if chats:
        made.add_chat_template(TEMPLATE)
    for name, shape in shapes(width, layers, len(tokens)).items():
        _add(made, name, shape, endless=endless)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path


def shapes(width: int, layers: int, vocab: int) -> dict[str, tuple[int, ...]]:
    """Return every tensor's shape, output rows first."""
    one = {"token_embd": (vocab, width), "output_norm": (width,), "output": (vocab, width)}
    layer = {
        "attn_norm": (width,), "attn_q": (width, width), "attn_k": (width, width),
        "attn_v": (width, width), "attn_output": (width, width), "ffn_norm": (width,),
        "ffn_gate": (2 * width, width), "ffn_up": (2 * width, width),
        "ffn_down": (width, 2 * width),
    }  # fmt: skip
    return one | {f"blk.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()}


def _add(made: gguf.GGUFWriter, name: str, shape: tuple[int, ...], *, endless: bool) -> None:
    random = np.random.default_rng(len(name) + shape[0])
    values = np.ones(shape, np.float32)
    if len(shape) == 2:
        values = random.standard_normal(shape, np.float32) * shape[-1] ** -0.5
    if endless and name == "token_embd":
        values[:, 0] = 10.0  # every state has this, and the special tokens' rows turn away from it
    if endless and name == "output":
        values[:, 0] = 0.0
        values[-len(SPECIAL) :, 0] = -10.0
    made.add_tensor(f"{name}.weight", values)
