"""llama.cpp as a witness: what it says of the next token, and how it splits text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import xllamacpp as native


class Witness:
    """A model in llama.cpp, all in 32 bits but its weights."""

    def __init__(self, path: Path, context: int) -> None:
        asked = native.CommonParams()
        asked.model.path = str(path)
        asked.n_ctx, asked.n_parallel = context, 1
        asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
        asked.warmup, asked.verbosity = False, -1
        asked.cache_type_k = asked.cache_type_v = native.ggml_type.GGML_TYPE_F32
        asked.flash_attn_type = native.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = native.Server(asked)

    def log_probabilities(self, tokens, vocab: int):
        """Return the log-probability of every next token after each prompt: [count, V]."""
        return torch.stack([self._after(row.tolist(), vocab) for row in tokens])

    def _after(self, prompt: list[int], vocab: int):
        found = torch.full((vocab,), float("nan"))
        for one in self._one_token(prompt, vocab):
            found[one["id"]] = one["logprob"]
        return found

    def _one_token(self, prompt: list[int], vocab: int) -> list[dict[str, Any]]:
        """Draw until a token comes that is no end: beside an end llama.cpp gives no numbers."""
        asked = {"max_tokens": 1, "logprobs": vocab, "cache_prompt": False, "temperature": 50.0,
                 "top_k": 0, "top_p": 1.0, "min_p": 0.0}  # fmt: skip
        for seed in range(1, 100):
            answer = self.server.handle_completions({"prompt": prompt, "seed": seed, **asked})
            if answer["choices"][0]["logprobs"] is not None:
                listed: list[dict[str, Any]] = answer["choices"][0]["logprobs"]["content"][0][
                    "top_logprobs"
                ]
                return listed
        raise AssertionError("the model says nothing but the end of a text")


@contextlib.contextmanager
def witness(path: Path, context: int) -> Iterator[Witness]:
    """Hold a model in llama.cpp."""
    held = Witness(path, context)
    yield held
    del held.server
