"""CPU seconds and peak memory of searches, sweeps and whole commands, on one core.

python benchmarks/search.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import statistics
import subprocess
import sys
import time

from crore.catalog import load_catalog
from crore.plan import PlanRequest, read_mission
from crore.plan.resolve import resolve
from crore.plan.search import search
from crore.plan.sweep import bare, grid_counts, sweep

REPEATS = 5
MISSIONS = ("llama3_405b", "deepseek_v3", "gpt4_20k", "ten_million", "ten_million_moe")
COMMANDS = (
    "--help",
    "plan llama-3.1-8b --gpus 8 --gpu h100-sxm",
    "plan llama3_405b",
    "plan ten_million",
    "fit baichuan-13b --gpu rtx-3090",
    "check llama3_405b",
)


def search_once(mission: str) -> tuple[float, int, int]:
    """Return (CPU seconds, settings of the space, settings priced) of one search."""
    question = resolve(PlanRequest(**(read_mission(mission) or {})))
    started = time.process_time()
    found = search(question)
    return time.process_time() - started, found.candidates, found.evaluated


def sweep_once(mission: str) -> tuple[float, int]:
    """Return (CPU seconds, counts with a plan) of a mission at 71 GPU counts."""
    request = bare(PlanRequest(**(read_mission(mission) or {})), load_catalog())
    started = time.process_time()
    found = list(sweep(request, grid_counts(request.gpus)))
    return time.process_time() - started, sum(it.plan is not None for it in found)


def command_once(command: str) -> tuple[float, float]:
    """Return (CPU seconds, peak megabytes) of one command in its own process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    call = f"import sys; from crore.cli import run; run({command.split()!r})"
    # The high-water mark of this process alone: ru_maxrss would start with its parent's.
    peak = "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    child = [sys.executable, "-c", f"{call}; {peak}"]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu_s, int(done.stderr.split()[-1]) / 1024


def main() -> None:
    """Print the median and range of REPEATS runs of each; a sweep runs once."""
    for mission in MISSIONS:
        runs = [search_once(mission) for _ in range(REPEATS)]
        seconds = sorted(run[0] for run in runs)
        print(
            f"search {mission}: {statistics.median(seconds):.2f} CPU s ({seconds[0]:.2f} to "
            f"{seconds[-1]:.2f}); {runs[0][1]:,} settings, {runs[0][2]:,} priced"
        )
    for mission in MISSIONS:
        cpu_s, planned = sweep_once(mission)
        print(f"sweep {mission}: {cpu_s:.1f} CPU s; 71 counts, {planned} with a plan")
    for command in COMMANDS:
        runs_of = [command_once(command) for _ in range(REPEATS)]
        seconds = sorted(cpu_s for cpu_s, _ in runs_of)
        print(
            f"crore {command}: {statistics.median(seconds):.2f} CPU s ({seconds[0]:.2f} to "
            f"{seconds[-1]:.2f}), {max(mb for _, mb in runs_of):.0f} MB"
        )


if __name__ == "__main__":
    main()
