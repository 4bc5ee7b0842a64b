"""How fast a GGUF file answers here, and what memory it takes: one model in one process.

    python benchmarks/answering.py FILE.gguf [--context N] [--prompt N] [--tokens N] [--threads N]

Prints one JSON object. Rates are from the first token of the answer to the last: `tokens_per_s` by
the clock, `tokens_per_cpu_s` by the CPU time of one thread, which other work hardly moves. The peak
is of this whole process, which holds nothing beside.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crore.serve.engine import EngineSettings, start, threads_of


def answered(settings: EngineSettings, *, prompt: int, tokens: int) -> dict[str, Any]:
    """Let llama.cpp read a prompt of so many tokens and write so many, and return how it went."""
    engine = start(settings)
    marks: list[tuple[float, float]] = []
    made = 0
    try:
        # Numbers of tokens instead of words: as many as asked, whatever the vocabulary.
        for piece in engine.complete([5] * prompt, max_tokens=tokens, ignore_eos=True):
            marks.append((time.perf_counter(), time.process_time()))
            made = piece.tokens or made
    finally:
        engine.close()
    (wall, cpu), (wall_end, cpu_end) = marks[0], marks[-1]
    threads = threads_of(settings.threads)
    return {
        "context": engine.context, "prompt": prompt, "tokens": made, "threads": threads,
        "tokens_per_s": (made - 1) / (wall_end - wall),
        "tokens_per_cpu_s": threads * (made - 1) / (cpu_end - cpu),
        "peak_bytes": peak_bytes(),
    }  # fmt: skip


def peak_bytes() -> int:
    """Return the most memory that this process had resident, as Linux has it.

    `ru_maxrss` would be at least what the process that began this one held.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main(report: Callable[[str], object] = print) -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    for name, usual in (("context", 512), ("prompt", 64), ("tokens", 64), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    asked = parser.parse_args()
    settings = EngineSettings(path=asked.file, context=asked.context, threads=asked.threads)
    report(json.dumps(answered(settings, prompt=asked.prompt, tokens=asked.tokens)))


if __name__ == "__main__":
    main()
