"""CPU seconds and memory of a rehearsal by the GPUs of the fleet, each in a process of its own.

    python benchmarks/rehearsal.py [--figure FILE.svg]

The same 70B model from one world of 64 GPUs to 1,221 worlds of 8,192 on 20 islands; then the two
plans of ten million: 405B in 1,221 worlds, and the mission `ten_million` itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from crore.plan.text.scale import Scale
from crore.plan.text.svg import BLUE, Svg
from crore.units import format_count

PLAN = ("--gpu", "h100-sxm", "--stack", "crore", "--seq-len", "4096", "--tokens", "1T")
PINS = "tp=8,pp=4,cp=1,zero=1,schedule=1f1b,recompute=full,micro_batch=1,dp_shard={shard}"
SERIES = ((64, 1, 1), (512, 1, 1), (8192, 1, 1), (8192, 12, 1), (8192, 122, 2), (8192, 1221, 20))
"""GPUs of a world, worlds, islands."""
ROUNDS = 8
"""Micro-batches of a rank."""
WIDTH, HEIGHT, EDGE = 560, 300, 64


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
    title = "CPU seconds of a rehearsal, by GPUs of the fleet"
    svg = Svg(WIDTH, HEIGHT, title, "; ".join(map(line, costs)))
    svg.text((EDGE, 26), title, size=14, bold=True)
    floor = HEIGHT - EDGE
    across = Scale.over([cost.gpus for cost in costs], EDGE, WIDTH - 24, log=True)
    top = 1.2 * max(cost.cpu_s for cost in costs)
    upwards = Scale(low=0, high=top, start=floor, end=44, log=False)
    svg.across(across, (44, floor), format_count, "GPUs")
    svg.upwards(upwards, (EDGE, WIDTH - 24), lambda value: f"{value:g} s", "CPU time")
    points = [(across(cost.gpus), upwards(cost.cpu_s)) for cost in costs]
    svg.line(points, BLUE, width=1.5)
    svg.dots(points, BLUE, size=8)
    for cost, (x, y) in zip(costs, points, strict=True):
        svg.text((x, y - 10), f"{cost.cpu_s:.1f} s", size=11, anchor="middle")
    return str(svg)


def main(arguments: list[str]) -> None:
    """Print the tables, and draw the figure where one is asked for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        costs = series(folder)
        if arguments[:1] == ["--figure"]:
            Path(arguments[1]).write_text(figure(costs), encoding="utf-8")
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
