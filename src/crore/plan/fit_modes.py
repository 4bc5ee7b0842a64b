"""The ways to use a model, and what each needs on the cards one has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.catalog import Accelerator
from crore.cost import Shape
from crore.cost.arrays import Num
from crore.cost.finetune import adapter_parts, training_job, training_parts
from crore.cost.serving import (
    FORMATS,
    HOST_PROCESS_BYTES,
    TORCH_PROCESS_BYTES,
    Format,
    answer_bytes,
    serving_parts,
    tensor_parallel,
)

LLAMA_CPP: Final = "llamacpp"
ENGINES: Final = {
    "transformers": ("fp16", "int8", "int4"), LLAMA_CPP: ("fp16", "q8_0", "q4_0"),
}  # fmt: skip
"""What serves a model -> the formats it serves it in."""
POINTS: Final = 128
"""Trials of one round of the search for the largest number that fits: priced as one column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mode:
    """One way to use a model."""

    name: str
    stored: Format | None
    """Format of frozen weights; None where every weight is trained."""
    trains: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Cards:
    """The machine of the question."""

    accelerator: Accelerator
    half: str
    gpus: Num
    engine: str = "transformers"
    """Of ENGINES: what serves the model."""

    def need(self, mode: Mode, shape: Shape, tokens: Num, batch: Num = 1.0) -> dict[str, Num]:
        """Return bytes on one card, by part."""
        if mode.stored is not None and not mode.trains:
            return self._serving(mode.stored, shape, tokens)
        job = training_job(
            shape, self.accelerator, self.half, tokens=tokens, batch=batch, cards=self.gpus
        )
        parts = training_parts(job) if mode.stored is None else adapter_parts(job, mode.stored)
        return self._with_process(parts, TORCH_PROCESS_BYTES)

    def _serving(self, stored: Format, shape: Shape, tokens: Num) -> dict[str, Num]:
        parts = serving_parts(shape, stored, tokens, tensor_parallel(shape, self.gpus))
        if not (self.accelerator.cpu and self.engine == LLAMA_CPP):
            return self._with_process(parts, TORCH_PROCESS_BYTES)
        # Its buffers are touched only as far as they are used, and counted with the process.
        kept = {name: parts[name] for name in ("weights", "cache", "context")}
        return self._with_process(kept, HOST_PROCESS_BYTES)

    def _with_process(self, parts: dict[str, Num], process_bytes: float) -> dict[str, Num]:
        """Return parts with the process itself in place of a card's context, on a CPU."""
        if not self.accelerator.cpu:
            return parts
        return {**parts, "context": process_bytes + 0.0 * parts["context"]}

    def speed(self, mode: Mode, shape: Shape, tokens: float) -> float | None:
        """Return the most tokens a second of an answer; None where the mode trains.

        Weights and cache at the memory's bandwidth; by llama.cpp on a machine that was measured at
        what its kernels read of each type, the cache at 16 bits. Left out: messages between cards.
        """
        if mode.stored is None or mode.trains:
            return None
        split = tensor_parallel(shape, self.gpus)
        read, cache = answer_bytes(shape, mode.stored, tokens, split)
        rates = self.read_rates()
        usual = self.accelerator.memory_bytes_per_s
        weights_per_s, cache_per_s = (rates.get(f, usual) for f in (mode.stored.name, "fp16"))
        return float(1 / (read / weights_per_s + cache / cache_per_s))

    def read_rates(self) -> Mapping[str, float]:
        """Return what the engine was measured to read here of each format, bytes per second."""
        measured = self.accelerator.measured
        return measured.read_bytes_per_s if measured and self.engine == LLAMA_CPP else {}

    def fits(self, mode: Mode, shape: Shape, tokens: Num, batch: Num = 1.0) -> NDArray[np.bool_]:
        """Return where the whole need is within a card's memory."""
        total = sum(self.need(mode, shape, tokens, batch).values(), start=np.asarray(0.0))
        return np.asarray(np.less_equal(total, self.accelerator.memory_bytes))


def cards_of(accelerator: Accelerator, gpus: int, engine: str = "transformers") -> Cards:
    """Return the machine, with the 16-bit format that it trains in."""
    half = "bf16" if accelerator.peak_flops.get("bf16") else "fp16"
    return Cards(accelerator=accelerator, half=half, gpus=float(gpus), engine=engine)


def modes_of(half: str, engine: str = "transformers") -> tuple[Mode, ...]:
    """Return every mode, in the order of the answer; `half` is the card's 16-bit format."""
    serving = [
        Mode(name=f"inference {f}", stored=FORMATS[f], trains=False) for f in ENGINES[engine]
    ]
    return (
        *serving,
        Mode(name=f"LoRA {half}", stored=FORMATS["fp16"], trains=True),
        Mode(name="QLoRA nf4", stored=FORMATS["nf4"], trains=True),
        Mode(name=f"training {half}", stored=None, trains=True),
    )


def last_fit(fits: Callable[[NDArray[np.float64]], NDArray[np.bool_]], limit: int) -> int:
    """Return the largest whole number from 1 to `limit` that fits, 0 when none does.

    `fits` tells a column of numbers, and once it says no it says no to all that are larger.
    """
    low, high = 0, limit + 1
    while high - low > 1:
        tried = np.unique(np.linspace(low + 1, high - 1, POINTS).round())
        good = int(np.count_nonzero(fits(tried)))
        high = int(tried[good]) if good < len(tried) else high
        low = int(tried[good - 1]) if good else low
    return low
