"""Tokens per second of `crore train`, one process and two, beside a bare loop of the same model.

    python benchmarks/throughput.py [--model nano-5m] [--rounds 3] [--steps 12]

The three take turns, so that other work on the machine disturbs all alike; each round's ratio is of
medians within the round. Writes nothing outside a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from crore.train.history import read_run

HERE = Path(__file__).parent
WARM = 3
"""First steps left out."""
BATCH, SEQ_LEN = 8, 256


def bare(model: str, steps: int) -> list[float]:
    """Return the step seconds of the bare loop on all cores."""
    threads = os.cpu_count() or 1
    words = [model, BATCH, SEQ_LEN, steps, threads]
    command = [sys.executable, str(HERE / "bare_loop.py"), *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def trained(model: str, steps: int, ranks: int, folder: Path) -> list[float]:
    """Return the step seconds of `crore train` with so many processes."""
    out = folder / f"{model}-{ranks}"
    command = [
        sys.executable, "-m", "crore", "train", model, "--gpus", str(ranks), "--steps", str(steps),
        "--seq-len", str(SEQ_LEN), "--global-batch", str(BATCH), "--precision", "fp32",
        "--fix", f"micro_batch={BATCH // ranks},dp_shard={ranks},zero=1",
        "--evaluate-every", str(steps),
        "--sample-every", str(steps), "--checkpoint-every", str(steps), "--out", str(out),
        "--fresh", "--quiet",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return [step.step_time_s for step in read_run(out / "run.jsonl").steps]


def main() -> None:
    """Print one line a round and the median ratios."""
    options = argparse.ArgumentParser()
    options.add_argument("--model", default="nano-5m")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--steps", type=int, default=12)
    asked = options.parse_args()
    ratios: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, asked.rounds + 1):
            base = statistics.median(bare(asked.model, asked.steps)[WARM:])
            words = [f"round {number}: bare {BATCH * SEQ_LEN / base:,.0f} tokens/s"]
            for ranks, found in ratios.items():
                times = trained(asked.model, asked.steps, ranks, Path(folder))
                step_s = statistics.median(times[WARM:])
                found.append(base / step_s)
                words.append(f"{ranks} process{'es' if ranks > 1 else ''} {base / step_s:.3f} x")
            print("; ".join(words), flush=True)
    for ranks, found in ratios.items():
        print(f"{ranks} rank(s): median {statistics.median(found):.3f} x, {sorted(found)}")


if __name__ == "__main__":
    main()
