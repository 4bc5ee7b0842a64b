"""What llama.cpp reads of a model's weights a second while it answers here, by their type.

A processor's kernels read each type at a rate of their own, below what its memory would give.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from crore.serve.engine import EngineSettings, start, threads_of

TYPES: Final[Mapping[str, str]] = {"fp16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
"""Formats of `crore fit` -> GGML's types."""
WIDTH, FFN, HEADS, LAYERS = 2048, 5632, 16, 4
"""206 million weights: 116 to 411 MB, beyond the caches of any core."""
BYTES: Final = 256
TOKENS: Final = 48
CONTEXT: Final = 256


def read_rates() -> dict[str, float]:
    """Return bytes per second by format, on the threads that a chat takes.

    Each from a model of random weights in a temporary file; some seconds in all.
    """
    with tempfile.TemporaryDirectory() as folder:
        return {name: _rate(Path(folder, f"{name}.gguf"), kind) for name, kind in TYPES.items()}


def _rate(path: Path, kind: str) -> float:
    read = write_model(path, kind)
    engine = start(EngineSettings(path=path, context=CONTEXT))
    try:
        pieces = engine.complete([BYTES], max_tokens=TOKENS, ignore_eos=True)
        # Threads wait for each other by spinning: their CPU time is what they take undisturbed.
        marks = [time.process_time() / threads_of(0) for _ in pieces]
    finally:
        engine.close()
        path.unlink()
    between = sorted(b - a for a, b in pairwise(marks[:-1]))
    return read / between[len(between) // 4]  # what else runs only ever adds time


def write_model(path: Path, kind: str) -> int:
    """Write a model of random weights, and return the bytes of weights that a token reads."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    made = GGUFWriter(path, "llama")
    made.add_context_length(CONTEXT)
    made.add_embedding_length(WIDTH)
    made.add_block_count(LAYERS)
    made.add_feed_forward_length(FFN)
    made.add_head_count(HEADS)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_rope_dimension_count(WIDTH // HEADS)
    _add_words(made)
    random, read = np.random.default_rng(0), 0
    for name, shape in _shapes():
        packed = np.ones(shape, np.float32)
        if len(shape) == 2:
            # The same rows over and over: drawing all of them would take longer than answering.
            rows = random.standard_normal((BYTES, shape[1]), np.float32) * shape[1] ** -0.5
            packed = quantize(rows, GGMLQuantizationType[kind])
            packed = np.tile(packed, (-(-shape[0] // BYTES), 1))[: shape[0]]
        raw = GGMLQuantizationType[kind] if len(shape) == 2 else None
        made.add_tensor(f"{name}.weight", packed, raw_dtype=raw)
        read += packed.nbytes * (name != "token_embd")
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return read


def _add_words(made: Any) -> None:
    """Add the smallest vocabulary that llama.cpp takes: the bytes, and an end."""
    from gguf import TokenType

    words = [*(f"<0x{byte:02X}>" for byte in range(BYTES)), "</s>"]
    made.add_vocab_size(len(words))
    made.add_tokenizer_model("llama")
    made.add_token_list(words)
    made.add_token_scores([0.0] * len(words))
    made.add_token_types([*[TokenType.BYTE] * BYTES, TokenType.CONTROL])
    made.add_bos_token_id(BYTES)
    made.add_eos_token_id(BYTES)


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield each tensor's name and shape, output rows first."""
    yield "token_embd", (BYTES + 1, WIDTH)
    for layer in range(LAYERS):
        yield from {
            f"blk.{layer}.attn_norm": (WIDTH,), f"blk.{layer}.ffn_norm": (WIDTH,),
            **{f"blk.{layer}.attn_{of}": (WIDTH, WIDTH) for of in ("q", "k", "v", "output")},
            **{f"blk.{layer}.ffn_{of}": (FFN, WIDTH) for of in ("gate", "up")},
            f"blk.{layer}.ffn_down": (WIDTH, FFN),
        }.items()  # fmt: skip
    yield "output_norm", (WIDTH,)
    yield "output", (BYTES + 1, WIDTH)
