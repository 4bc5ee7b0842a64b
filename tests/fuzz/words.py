"""What random missions and command lines are made of: values that mean something, and junk."""

from __future__ import annotations

from random import Random
from typing import Any

from crore.catalog import load_catalog
from crore.cost.machine import PRECISIONS
from crore.plan import mission_names
from crore.plan.pins import FIX_COUNTS
from crore.plan.request import OBJECTIVES
from crore.units import LIMIT_KEYS

CATALOG = load_catalog()
MODELS, GPUS = CATALOG.models(), CATALOG.accelerators()
FABRICS, CLUSTERS = CATALOG.fabrics(), CATALOG.clusters()
MISSIONS = mission_names()
STACKS = ("megatron-2021", "megatron-deepspeed", "bigscience-2022", "megatron-2025", "nemo",
          "fsdp", "torchtitan", "xla", "crore")  # fmt: skip
DATACENTER = ("h100-sxm", "h200-sxm", "b200-sxm", "gb200-nvl72", "gb300-nvl72", "mi300x", "tpu-v5p")
COUNTS = (1, 2, 3, 7, 8, 12, 64, 72, 100, 1000, 1024, 5_040, 16_384, 24_576, 55_440, 65_537, 83_160,
          98_280, 100_000, 100_001, 720_720, 1_000_000, 7_207_200, 9_437_184, 9_999_991,
          10_000_000)  # fmt: skip
"""GPUs: powers of two, primes, and numbers with very many divisors."""
WORDS = {
    "schedule": ("1f1b", "interleaved", "zb-v", "zb-h1", "dualpipe", "gpipe", "afab"),
    "recompute": ("none", "light", "selective", "full"),
    "offload": ("none", "optimizer", "activations", "both"),
    "optimizer": ("adamw", "muon"),
    "precision": PRECISIONS,
}
JUNK = ("", " ", "0", "-1", "-0", "nan", "inf", "1e400", "1e31", "9" * 5000, "0x10", "1.5", "½",
        "٣", "八", "null", "true", "\x00", "\x1b[31m", "a\nb", "🦙" * 80, "%s{0}", "--", "-", "=",
        ",,,", "tp", "tp=", "=8", "../..", "~", "*", "16 k k", "1,00", "80 ZB", "30 horses",
        "x" * 300)  # fmt: skip


def spoilt(rng: Random, word: str) -> str:
    """Return a word with one letter lost, doubled, swapped or in another case."""
    if len(word) < 2:
        return word + "z"
    k = rng.randrange(len(word) - 1)
    return rng.choice(
        (word[:k] + word[k + 1 :], word[:k] + word[k] + word[k:], word.upper(),
         word[:k] + word[k + 1] + word[k] + word[k + 2 :])
    )  # fmt: skip


def gpus(rng: Random) -> int:
    """Return a GPU count from one to ten million."""
    return rng.choice((rng.choice(COUNTS), 1 << rng.randrange(24), round(10 ** rng.uniform(0, 7))))


def typed(rng: Random, count: int) -> str:
    """Return a count as somebody types it."""
    return rng.choice((str(count), f"{count:,}", f"{count:.3g}", f"{max(count // 1000, 1)}k"))


def sequence(rng: Random) -> int:
    """Return tokens per sequence, mostly of a power of two."""
    return rng.choice((1, 1000, 4608, 1_000_000, *(1 << k for k in range(7, 21))))


def pins(rng: Random, most: int = 4) -> dict[str, int | str]:
    """Return some pins a layout may have."""
    found: dict[str, int | str] = {}
    for key in rng.sample((*FIX_COUNTS, "zero", *WORDS), rng.randrange(most + 1)):
        if key in WORDS:
            found[key] = rng.choice(WORDS[key])
        elif key == "zero":
            found[key] = rng.randrange(4)
        else:
            found[key] = rng.choice((1, 2, 3, 4, 8, 16, 61, 64, 4096))
    return found


def limits(rng: Random, most: int = 2) -> dict[str, str]:
    """Return some limits, as typed."""
    values = {
        "gpus": lambda: typed(rng, gpus(rng)),
        "memory": lambda: rng.choice(("1 GB", "24 GB", "64GiB", "500 GB")),
        "memory_margin": lambda: rng.choice(("0", "0.04", "0.2", "0.9")),
        "global_batch_tokens": lambda: rng.choice(("1k", "4M", "64M", "1B")),
        "power": lambda: rng.choice(("300 W", "10 kW", "30 MW", "5 GW")),
        "days": lambda: rng.choice(("0.001", "1", "90", "3650")),
        "world_gpus": lambda: rng.choice(("8", "1k", "4608", "10k", "100k")),
    }
    keys = rng.sample(LIMIT_KEYS, rng.randrange(most + 1))
    return {key: values[key]() for key in keys}


def choice_of(rng: Random, key: str) -> Any:
    """Return a sound value for a key of a mission or a flag."""
    values = {
        "model": lambda: rng.choice(MODELS),
        "gpu": lambda: rng.choice(rng.choice((GPUS, DATACENTER))),
        "gpus": lambda: gpus(rng),
        "name": lambda: rng.choice(CLUSTERS),
        "cluster": lambda: rng.choice(CLUSTERS),
        "fabric": lambda: rng.choice(FABRICS),
        "wan": lambda: rng.choice(FABRICS),
        "sites": lambda: rng.choice((1, 2, 7, 20, 100, 5000)),
        "tokens": lambda: round(10 ** rng.uniform(0, 16)),
        "stock_tokens": lambda: round(10 ** rng.uniform(6, 16)),
        "seq_len": lambda: sequence(rng),
        "global_batch": lambda: rng.choice((1, 7, 1 << rng.randrange(20), gpus(rng))),
        "global_batch_tokens": lambda: rng.choice((1 << rng.randrange(31), 4096 * gpus(rng))),
        "precision": lambda: rng.choice(PRECISIONS),
        "stack": lambda: rng.choice(STACKS),
        "objective": lambda: rng.choice(OBJECTIVES),
        "top": lambda: rng.choice((1, 2, 5, 20)),
    }
    return values[key]()
