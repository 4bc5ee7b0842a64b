"""CPU seconds and memory of a rehearsal by the GPUs of the fleet, each in a process of its own.

    python benchmarks/rehearsal.py [--figure FILE.svg]

The same 70B model from one world of 64 GPUs to 1,221 worlds of 8,192 on 20 islands; then the two
plans of ten million: 405B in 1,221 worlds, and the mission `ten_million` itself.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PLAN = ("--gpu", "h100-sxm", "--stack", "crore", "--seq-len", "4096", "--tokens", "1T")
PINS = "tp=8,pp=4,cp=1,zero=1,schedule=1f1b,recompute=full,micro_batch=1,dp_shard={shard}"
SERIES = ((64, 1, 1), (512, 1, 1), (8192, 1, 1), (8192, 12, 1), (8192, 122, 2), (8192, 1221, 20))
"""GPUs of a world, worlds, islands."""
ROUNDS = 8
"""Micro-batches of a rank."""
WIDTH, HEIGHT, EDGE = 480, 240, 48


class Cost(NamedTuple):
    """What one rehearsal took."""

    gpus: int
    cpu_s: float
    peak_bytes: float


def rehearsed(plan: Path, gpu: int, *more: str) -> tuple[float, float]:
    """Return CPU seconds and peak memory of `crore rehearse`, in a process of its own."""
    command = [sys.executable, "-m", "crore", "rehearse", str(plan), "--rank", str(gpu), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    process.stdout.read()
    _, _, used = os.wait4(process.pid, 0)
    print(f"  {said}", flush=True)
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024.0


def planned(folder: Path, name: str, *arguments: str) -> Path:
    """Write a plan and return its file."""
    path = folder / f"{name}.json"
    command = [sys.executable, "-m", "crore", "plan", *arguments, "-o", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def series(folder: Path) -> list[Cost]:
    """Rehearse the last GPU but one of each fleet."""
    costs = []
    for world, worlds, islands in SERIES:
        shard = world // 32
        plan = planned(
            folder, f"w{world}", "llama-3.1-70b", *PLAN, "--gpus", str(world),
            "--global-batch", str(ROUNDS * shard), "--fix", PINS.format(shard=shard),
        )  # fmt: skip
        gpus = world * worlds
        fleet = ("--worlds", str(worlds), "--islands", str(islands), "--agree", "one")
        costs.append(Cost(gpus, *rehearsed(plan, gpus - 2, *fleet)))
        print(line(costs[-1]), flush=True)
    return costs


def line(cost: Cost) -> str:
    """Return a row of the table."""
    return f"{cost.gpus:>12,} GPUs  {cost.cpu_s:6.1f} CPU s  {cost.peak_bytes / 1e6:6.0f} MB"


def figure(costs: list[Cost]) -> str:
    """Return CPU seconds over GPUs as an SVG, the horizontal axis logarithmic."""
    top = 1.2 * max(cost.cpu_s for cost in costs)
    low, high = (math.log10(costs[k].gpus) for k in (0, -1))

    def at(cost: Cost) -> tuple[float, float]:
        x = EDGE + (math.log10(cost.gpus) - low) / (high - low) * (WIDTH - 2 * EDGE)
        return x, HEIGHT - EDGE - cost.cpu_s / top * (HEIGHT - 2 * EDGE)

    points = [at(cost) for cost in costs]
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points)
    labels = "".join(
        f'<text x="{x:.1f}" y="{HEIGHT - 28}">{cost.gpus:,}</text>'
        f'<text x="{x:.1f}" y="{y - 10:.1f}">{cost.cpu_s:.1f} s</text>'
        for cost, (x, y) in zip(costs, points, strict=True)
    )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    floor = HEIGHT - EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="9" text-anchor="middle">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{WIDTH / 2}" y="20" font-size="12">CPU seconds of a rehearsal, by GPUs of the '
        f'fleet</text><line x1="{EDGE}" y1="{floor}" x2="{WIDTH - EDGE}" y2="{floor}" '
        f'stroke="gray"/><polyline points="{path}" fill="none" stroke="black"/>{dots}{labels}</svg>'
    )


def main(arguments: list[str]) -> None:
    """Print the tables, and draw the figure where one is asked for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        costs = series(folder)
        if arguments[:1] == ["--figure"]:
            Path(arguments[1]).write_text(figure(costs) + "\n", encoding="utf-8")
        large = planned(folder, "405b", "llama-3.1-405b", "--gpu", "h100-sxm", "--gpus", "8192",
                        "--stack", "crore", "--tokens", "15T")  # fmt: skip
        fleet = ("--worlds", "1221", "--islands", "20")
        for reach in ("one", "near"):
            print(f"405B, --agree {reach}")
            taken = rehearsed(large, 7_654_321, *fleet, "--agree", reach)
            print(line(Cost(1221 * 8192, *taken)))
        mission = planned(folder, "mission", "ten_million")
        for reach in ("one", "near"):
            print(f"ten_million, --agree {reach}")
            print(line(Cost(10_000_000, *rehearsed(mission, 7_654_321, "--agree", reach))))


if __name__ == "__main__":
    main(sys.argv[1:])
