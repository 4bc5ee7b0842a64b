"""A model of a few thousand weights in Hugging Face's layout, with a tokenizer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "what", "does", "it", "do", "say", "hello",
         "who", "are", "you", "I", "am", "fine")  # fmt: skip
END = "<|endoftext|>"


def write_model(folder: Path, *, template: str | None = None) -> Path:
    """Write it into a folder; the same each time."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        [" ".join(WORDS)] * 4,
        BpeTrainer(
            vocab_size=320, special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        ),
    )  # fmt: skip
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END, pad_token=END)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


def said(question: str, answer: str) -> tuple[dict[str, str], ...]:
    """Return a conversation of one question."""
    return ({"role": "user", "content": question}, {"role": "assistant", "content": answer})


def conversations(count: int = 120) -> list[tuple[dict[str, str], ...]]:
    """Return questions with answers that can be learned."""
    nouns, verbs = WORDS[:8], WORDS[8:]
    return [
        said(f"what does {nouns[k % 8]} {verbs[k % 5]} {k}", f"it is {nouns[k % 8]} fine")
        for k in range(count)
    ]
