"""What a fine-tuning run does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from crore.errors import InputError, UnknownName

Stage = Literal["sft", "dpo"]
Method = Literal["full", "lora", "qlora"]
STAGES: Final[tuple[Stage, ...]] = ("sft", "dpo")
METHODS: Final[tuple[Method, ...]] = ("full", "lora", "qlora")
RATES: Final = {
    ("sft", "full"): 2e-5, ("sft", "lora"): 5e-4, ("sft", "qlora"): 5e-4,
    ("dpo", "full"): 5e-7, ("dpo", "lora"): 5e-5, ("dpo", "qlora"): 5e-5,
}  # fmt: skip
"""Learning rates by default, those of all weights for a model `WIDTH` wide. Adapters take about ten
times as much (arXiv 2106.09685 D.4, 2305.14314 B.2), preferences far less (2305.18290 B)."""
WIDTH, STEEPNESS = 4096, 1.5
"""All weights of a narrower model take a higher rate. 2e-5 at 4,096 (arXiv 2307.09288 §3.1) and
3e-3 at 128 (benchmarks/tune_epyc-2core_2026-11-27.md) are a power of the width; so are, with nearly
the same exponent, 1e-6 at 2,560 (2305.18290 B) and 1e-4 at 128 for preferences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """A fine-tuning run."""

    folder: Path
    """What it writes: state, log, and the tuned model."""
    base: Path
    """The model it begins with, a folder of Hugging Face's layout."""
    stage: Stage = "sft"
    """Conversations, or preferences."""
    method: Method = "lora"
    """All weights, adapters, or adapters on weights of 4 bits (NF4)."""
    lr: float | None = None
    """Highest learning rate; None for the default of stage and method."""
    epochs: float = 3.0
    """Passes over the data, at most: it stops where evaluations stop falling."""
    steps: int | None = None
    """Optimizer steps, at most; None for what the epochs take."""
    rows: int = 8
    """Rows of a step: of `seq_len` tokens, or pairs of answers."""
    seq_len: int = 256
    """Tokens of a row; longer conversations are left out."""
    rank: int = 16
    """Of the adapters."""
    beta: float = 0.1
    """Of preferences: how dearly the model moves from the one it began with."""
    evaluate_every: int = 25
    """Steps."""
    evaluated: int = 128
    """Held-out conversations or pairs, at most."""
    patience: int = 3
    """It stops after so many evaluations that are not better."""
    seed: int = 0
    device: str = ""
    """Empty: the first card, or the CPU without one."""
    threads: int = 0
    """Of a CPU; as torch has it if 0."""

    def __post_init__(self) -> None:
        """Raise InputError for a number that no run can have."""
        if self.stage not in STAGES:
            raise UnknownName("stage", self.stage, STAGES)
        if self.method not in METHODS:
            raise UnknownName("method", self.method, METHODS)
        least = {
            "epochs": self.epochs, "steps": self.steps, "rows": self.rows,
            "seq_len": self.seq_len, "rank": self.rank, "beta": self.beta, "lr": self.lr,
            "evaluate_every": self.evaluate_every, "patience": self.patience,
        }  # fmt: skip
        for name, value in least.items():
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} must be above 0, not {value}")

    def rate(self, hidden: int) -> float:
        """Return the highest learning rate, for a model of a width."""
        narrower = (WIDTH / hidden) ** STEEPNESS if self.method == "full" else 1.0
        return self.lr or narrower * RATES[self.stage, self.method]

    def identity(self, data: str) -> str:
        """Return what must be the same for a run to go on, `data` a hash of what it trains on."""
        told = {
            k: str(v) for k, v in asdict(self).items() if k not in ("folder", "device", "threads")
        }
        text = json.dumps({**told, "data": data}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
