"""CPU seconds of the planner's answers behind a page, each question new, on one core.

python -m benchmarks.planner [small] [large] [again]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final

from crore.catalog import load_catalog
from crore.errors import CroreError
from crore.plan import PlanRequest, make_plan, plan_record
from crore.report.live import Live, live_of
from crore.report.sheet import sheet_of
from crore.report.sweeping import alone

MODELS: Final = (
    "smollm2-135m", "llama3.2-1b", "llama3-8b", "mistral-7b", "baichuan-13b", "qwen3-32b",
    "llama3-70b", "gpt3-175b", "llama3.1-405b", "gpt-1t", "mixtral-8x7b", "qwen3-235b-a22b",
    "deepseek-v3",
)  # fmt: skip
GPUS: Final = ("rtx-3090", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "gb200-nvl72", "mi300x")
SMALL: Final = (1, 8, 64, 100, 512, 1_000, 4_096, 16_384, 50_000, 100_000)
LARGE: Final = (131_072, 300_000, 1_000_000, 3_000_000, 10_000_000)
PER_MODEL: Final = 12
SEED: Final = 1
WORST: Final = 5
Row = tuple[float, str, str]
"""CPU seconds, state, scenario in words."""


def answers(live: Live, counts: Iterable[int], per_model: int) -> Iterator[Row]:
    """Yield what so many new questions per model cost."""
    draw, choice = random.Random(SEED), list(counts)  # noqa: S311
    for model in MODELS:
        for gpu, gpus in draw.sample([(g, n) for g in GPUS for n in choice], per_model):
            asked = {"model": model, "gpu": gpu, "gpus": str(gpus)}
            started = time.thread_time()
            try:
                state = str(live.answer(asked)["state"])
            except CroreError as error:
                state = str(error)
            cpu_s = time.thread_time() - started
            yield cpu_s, state, f"{model} on {gpus:,} x {gpu}"


def tell(title: str, rows: list[Row], bar_s: float) -> None:
    """Print quantiles, by model and by what the answer is, and the slowest."""
    print(f"{title}: {_quantiles(rows)}; {sum(r[0] > bar_s for r in rows)} of {len(rows)} above "
          f"{bar_s:g} s")  # fmt: skip
    for state in sorted({row[1] for row in rows}):
        print(f"  {state[:60]}: {_quantiles([row for row in rows if row[1] == state])}")
    for model in MODELS:
        print(f"  {model}: {_quantiles([row for row in rows if row[2].startswith(model + ' ')])}")
    for cpu_s, state, words in sorted(rows, reverse=True)[:WORST]:
        print(f"  slowest {cpu_s:.2f} s  {words}: {state[:80]}")


def _quantiles(rows: list[Row]) -> str:
    seconds = sorted(row[0] for row in rows)
    high = seconds[min(int(0.95 * len(seconds)), len(seconds) - 1)]
    return (
        f"median {1e3 * statistics.median(seconds):.0f} ms, p95 {1e3 * high:.0f}, worst "
        f"{1e3 * seconds[-1]:.0f} ({len(seconds)})"
    )


def main(parts: list[str]) -> None:
    """Print what answers cost up to 100,000 GPUs and above, and what an answer again costs."""
    load_catalog()
    request = PlanRequest(model="llama3.2-1b", gpu="h100-sxm", gpus=64)
    swept = alone(plan_record(make_plan(request)))
    live = live_of(swept, sheet_of(swept, "mission")["points"])
    if "small" in parts:
        tell("up to 100,000 GPUs", list(answers(live, SMALL, PER_MODEL)), 0.15)
    if "large" in parts:
        tell("above", list(answers(live, LARGE, PER_MODEL // 2)), 2.0)
    if "again" in parts:
        few = (1, 8)
        list(answers(live, few, PER_MODEL // 2))
        print(f"asked again: {_quantiles(list(answers(live, few, PER_MODEL // 2)))}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["small", "large", "again"])
