"""Small texts for the tests of the data, and a preparation that can be run as a process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from crore.train.data import Dataset, parse_sources, prepare

WORDS = (
    ("the", "a", "of", "grid", "storage", "turbine", "price", "patient", "café", "bond", "漢字",
     "load", "yields", "and", "rises")
)  # fmt: skip
GAPS = (" ", " ", " ", ", ", ".\n\n")
SEQ_LEN = 16


def story(seed: int, words: int = 120) -> str:
    """Return some paragraphs of made-up text, ASCII and not."""
    chance = np.random.default_rng(seed)
    text = (f"{chance.choice(WORDS)}{chance.choice(GAPS)}" for _ in range(words))
    return "".join(text) + f"number {seed}\n"


def folder_of(path: Path, documents: int = 60, first: int = 0) -> Path:
    """Write a folder of text files."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + documents):
        (path / f"{number:03}.txt").write_text(story(number), encoding="utf-8")
    return path


def prepared(names: str, cache: Path, **changes: Any) -> Dataset:
    """Prepare sources with small settings."""
    settings: dict[str, Any] = {
        "vocab": 400,
        "tokenizer": None,
        "seq_len": SEQ_LEN,
        "seed": 7,
        "progress": None,
    }
    return prepare(parse_sources(names), cache=cache, **(settings | changes))


def main() -> None:
    """Prepare argv[1] in argv[2], print each stage once; die at share argv[4] of stage argv[3]."""
    stage, share = (sys.argv[3], float(sys.argv[4])) if len(sys.argv) > 3 else ("", 0.0)
    seen = []

    def progress(what: str, done: float) -> None:
        if what == stage and done >= share:
            os.kill(os.getpid(), signal.SIGKILL)
        if what not in seen:
            seen.append(what)

    dataset = prepared(sys.argv[1], Path(sys.argv[2]), progress=progress)
    print(dataset.key, *seen)


if __name__ == "__main__":
    main()
