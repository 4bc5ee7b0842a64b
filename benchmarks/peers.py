"""Two cases side by side with other planners: Calculon's search, Epoch's eight million GPUs.

python benchmarks/peers.py
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from crore.cost import Job, Memory, StepTime, memory, operations, step_time
from crore.cost.arrays import Num
from crore.plan import Limits, PlanRequest, make_plan
from crore.plan.request import LARGEST_WORLD

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.peers import calculon, epoch

REPEATS = 7
CATALOG = Path(__file__).parents[1] / "tests/peers/epoch.toml"
CALCULON_CPU_S = "433 to 447"
"""Calculon (commit caa4b11) on the same two cores, quiet, measured 2026-11."""
ALIKE = (
    ("forward and backward", ("products", "memory passes"), ("forward", "backward")),
    ("recompute", ("recompute",), ("recompute",)),
    ("tensor-parallel messages", ("tp",), ("tp", "recompute messages")),
    ("pipeline messages", ("pp",), ("pp",)),
    ("bubble", ("bubble",), ("bubble",)),
    ("data-parallel messages", ("dp",), ("dp",)),
    ("optimizer", ("optimizer",), ("optimizer",)),
    ("embedding", ("uneven stages",), ()),
    ("slowest of 4,096 ranks", ("stragglers",), ()),
)
"""Part, our names for it, Calculon's."""


def price(run: calculon.Space) -> tuple[Job, StepTime, Memory]:
    """Return the full time and memory of every candidate."""
    job = calculon.job(run)
    ops = operations(job)
    return job, step_time(job, calculon.constants(), ops), memory(job, ops)


def report_calculon() -> None:
    """Print case C1: counts, CPU time, best plan, parts and memory."""
    start = time.process_time()
    space = calculon.space()
    run = space.where(calculon.tried(space))
    listed = time.process_time() - start
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        job, step, held = price(run)
        seconds.append(time.process_time() - start)
    low, mid, high = np.quantile(seconds, [0, 0.5, 1])
    print(f"Calculon, case C1: {len(space.tp):,} combinations, {len(run.tp):,} run")
    print(
        f"listed in {listed:.2f} CPU s; time and memory of each in {mid:.2f} ({low:.2f} to", end=""
    )
    print(f" {high:.2f}) CPU s; Calculon {CALCULON_CPU_S} CPU s\n")
    row = int(np.flatnonzero(calculon.is_best_of_peer(run))[0])
    fastest = np.where(calculon.usable(run, job, held), step.step_s, np.inf).min()
    flat = replace(job, machine=replace(job.machine, linear_measured=0.95 * calculon.PEAK))
    plain = step_time(flat, calculon.constants()).step_s
    print("| s per step, t4 p16 d64 v6 mbs1 | crore | Calculon | ratio |\n|---|---|---|---|")
    for name, ours, theirs in ALIKE:
        here = sum(at(step.parts[part], row) for part in ours)
        print(f"| {name} | {here:.3f} | {sum(calculon.PARTS_S[part] for part in theirs):.3f} | |")
    line(f"step (fastest that fits: {fastest:.3f} s)", at(step.step_s, row), calculon.STEP_S)
    line("the same at one flat product rate of 95 %", at(plain, row), calculon.STEP_S)
    peer_gb = calculon.HELD_BYTES / 1e9
    line("GB allocated", at(held.allocated_bytes, row) / 1e9, peer_gb)
    line("GB with context and fragmentation", at(held.peak_bytes, row) / 1e9, peer_gb)


def at(column: Num, row: int) -> float:
    """Return a column's value of one candidate; one number holds for all."""
    return float(np.broadcast_to(column, calculon.RUN)[row])


def line(name: str, ours: float, theirs: float) -> None:
    """Print one compared row."""
    print(f"| {name} | {ours:.3f} | {theirs:.3f} | {ours / theirs:.3f} |")


def report_epoch() -> None:
    """Print the plan's utilisation under its assumptions, then with each omission made good."""
    messages, products = epoch.messages_s()
    print(f"\nEpoch, {epoch.GPUS:,} H100: utilisation {epoch.UTILISATION} published, ", end="")
    print(f"step {epoch.peer_step_s():.3f} s by its own formula")
    print(f"messages {messages:.3f} s hide behind products {products:.3f} s\n")
    print("| assumptions | utilisation | step s | largest parts, s | peak GB |")
    print("|---|---|---|---|---|")
    for case in epoch.cases():
        parts = sorted(case.parts.items(), key=lambda item: -item[1])[:4]
        shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts)
        peak = float(memory(case.job, operations(case.job)).peak_bytes) / 1e9
        total = sum(case.parts.values())
        print(f"| {case.name} | {case.utilisation:.3f} | {total:.2f} | {shown} | {peak:.0f} |")


def report_own_answer() -> None:
    """Print what crore itself plans for Epoch's model, batch, compute and GPUs."""
    tokens = round(epoch.FLOPS / (6 * epoch.PARAMETERS))
    request = PlanRequest(
        model="epoch-19t", catalog_file=CATALOG, gpu="h100-sxm", gpus=epoch.GPUS, stack="crore",
        seq_len=epoch.SEQ, tokens=tokens, global_batch_tokens=epoch.BATCH_TOKENS,
        limits=Limits(world_gpus=LARGEST_WORLD),
    )  # fmt: skip
    print(f"\nOwn answer, {tokens:.3g} tokens, attention, embedding and head added\n")
    print("| batch, tokens a step | utilisation | days | goodput | fleet | binds |")
    print("|---|---|---|---|---|---|")
    for factor in (1, 4, 32):
        asked = replace(request, global_batch_tokens=factor * epoch.BATCH_TOKENS)
        plan = make_plan(asked).plan
        fleet = f"{plan.islands} islands, {plan.worlds} worlds, {plan.gpus:,} GPUs"
        binds = ", ".join(limit.name for limit in plan.limits if limit.binds) or "nothing"
        print(
            f"| {plan.global_batch_tokens:,} | {plan.mfu:.3f} | {plan.days.value:,.0f} | "
            f"{plan.goodput:.2f} | {fleet} | {binds} |"
        )


if __name__ == "__main__":
    report_calculon()
    report_epoch()
    report_own_answer()
