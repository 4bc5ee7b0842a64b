"""Failures: closed forms against Monte-Carlo, published figures against predictions, CPU seconds.

    python benchmarks/goodput.py

Prints the tables of the dated file beside it, as Markdown. About a minute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from crore.catalog.reliability import load_reliability
from crore.cost.goodput import HAZARD_PER_GPU_S
from crore.simulate.failures import (
    POLICIES,
    Hazard,
    Policy,
    Run,
    Unsure,
    catalogue_run,
    chrome_trace,
    elasticities,
    failures_only,
    goodput,
    run_distribution,
    timeline,
)
from crore.simulate.failures.published import predictions

DAYS: Final = 100.0
WORK_S: Final = DAYS * 86_400
FLEETS: Final = {
    16_384: (2048, 2),
    100_000: (4608, 4),
    1_000_000: (4608, 10),
    10_000_000: (4608, 20),
}
"""GPUs -> (GPUs of a world, islands)."""
STEP_S, ROUND_S = 13.2, 660.0


def fleet(gpus: int, hazard: float) -> Run:
    """Return a fleet with everything that may happen."""
    world, islands = FLEETS[gpus]
    run = catalogue_run(
        gpus=float(gpus), world_gpus=float(world), islands=islands, step_s=STEP_S, round_s=ROUND_S
    )
    return replace(run, hazard=hazard)


def bare(gpus: float, world_gpus: float, islands: int = 1) -> Run:
    """Return a fleet in which GPUs fail at Llama 3's rate and nothing else happens."""
    run = catalogue_run(
        gpus=gpus, world_gpus=world_gpus, islands=islands, step_s=0.0, round_s=400.0
    )
    alike = Hazard(name="all", domain="gpu", domain_gpus=1.0, per_gpu_s=HAZARD_PER_GPU_S)
    return replace(failures_only(run), hazards=(alike,))


def row(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def head(*cells: str) -> str:
    """Return the first two rows of a Markdown table."""
    return row(*cells) + "\n" + row(*("---" for _ in cells))


def share(value: float) -> str:
    """Return a share with four digits, or its power of ten."""
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.0e}"


def agreement() -> Iterator[str]:
    """Closed form, mean of the draws and their distance, by policy, size and hazard."""
    yield "\n## Closed form against Monte-Carlo\n"
    yield head("policy", *(f"{gpus:,} x{k}" for gpus in FLEETS for k in (1, 3)))
    worst = 0.0
    for policy in POLICIES:
        cells = []
        for gpus in FLEETS:
            for hazard in (1.0, 3.0):
                closed, gap = distance(fleet(gpus, hazard), policy)
                worst = max(worst, abs(gap))
                cells.append(f"{share(closed)} ({gap:+.1f})")
        yield row(policy, *cells)
    yield (
        "\nGoodput in closed form; in brackets, in standard errors, how far the mean time of 1,000 "
        f"draws of {DAYS:g} days is from it: {worst:.1f} at most."
    )


def distance(run: Run, policy: Policy) -> tuple[float, float]:
    """Return (goodput in closed form, standard errors the draws' mean time is from its)."""
    drawn = run_distribution(run, policy, WORK_S, draws=1000, seed=1)
    closed = float(goodput(run, policy).goodput)
    mean = float(np.mean(1 / np.maximum(drawn.goodput, 1e-300)))
    return closed, (mean - 1 / closed) / drawn.inverse_error


def known_tables() -> Iterator[str]:
    """What differs from the table of an earlier Monte-Carlo of islands."""
    yield "\n## Islands: barrier / quorum / free, failures and site outages only\n"
    yield head("islands", *(f"stall {stall:g} s, x{k}" for stall in (60, 10, 1) for k in (1, 3)))
    sites = fleet(10_000_000, 1.0).sites
    for islands in (1, 20, 100, 400):
        run = replace(bare(1e7, 4608.0, islands), sites=sites)
        cells = []
        for stall_s in (60.0, 10.0, 1.0):
            for hazard in (1.0, 3.0):
                one = replace(run, stall_s=stall_s, hazard=hazard)
                found = (goodput(one, policy).goodput for policy in POLICIES[-3:])
                cells.append(" / ".join(f"{float(x):.3f}" for x in found))
        yield row(islands, *cells)


def published() -> Iterator[str]:
    """Predicted against published."""
    rows, once, middle = load_reliability().published, predictions(), predictions(Unsure().median)
    yield "\n## Predicted against published\n"
    yield head("row", "what", "published", "predicted", "at hazard 1.8", "verdict", "source")
    for name, one in rows.items():
        found = once[name]
        verdict = "agrees" if one.low <= found <= one.high else "**missed**"
        yield row(
            name, one.what, one.published, f"{found:.3g}", f"{middle[name]:.3g}", verdict,
            one.provenance.source,
        )  # fmt: skip


def hundred_days() -> Iterator[str]:
    """Goodput and days of ten million GPUs by policy, and the CPU seconds they take."""
    yield "\n## A hundred days of work on ten million GPUs\n"
    yield head("policy", "x1: p10, p50, p90", "x3", "hazard not known", "its days", "largest loss")
    start = time.process_time()
    for policy in POLICIES:
        cells = []
        for hazard in (1.0, 3.0):
            drawn = run_distribution(fleet(10_000_000, hazard), policy, WORK_S, 1000, seed=2)
            cells.append(", ".join(share(x) for x in drawn.percentiles("goodput").values()))
        unsure = run_distribution(
            fleet(10_000_000, 1.0), policy, WORK_S, 1000, seed=2, unsure=Unsure()
        )
        cells.append(", ".join(share(x) for x in unsure.percentiles("goodput").values()))
        days = [x / 86_400 for x in unsure.percentiles("finish_s").values()]
        cells.append(", ".join(f"{x:.0f}" if x < 1e5 else f"{x:.0e}" for x in days))
        cause, lost = max(unsure.losses.items(), key=lambda item: item[1])
        yield row(policy, *cells, f"{cause} {lost:.3f}")
    used = time.process_time() - start
    yield f"\n{used:.1f} CPU s for 24,000 draws: eight policies at each of three hazards."


def what_matters() -> Iterator[str]:
    """The largest elasticities."""
    yield "\n## What moves goodput most, at ten million\n"
    yield head("policy", "d ln goodput / d ln parameter")
    policies: tuple[Policy, ...] = ("hot-spares", "quorum", "islands-barrier", "islands-quorum")
    for policy in policies:
        found = elasticities(fleet(10_000_000, 1.0), policy)
        yield row(policy, ", ".join(f"{k} {v:+.3f}" for k, v in [*found.items()][:7]))


def corrections() -> Iterator[str]:
    """What a step of finite length does to two goodputs that are quoted without one."""
    yield "\n## A step takes its time\n"
    yield head("ten million GPUs, failures only", "steps of no length", f"of {STEP_S} s")
    run = bare(1e7, 8192.0)
    stepped = replace(run, step_s=STEP_S)
    yield row(
        "hot-spares: a checkpoint at the end of a step at the earliest",
        share(float(goodput(run, "hot-spares").goodput)),
        share(float(goodput(stepped, "hot-spares").goodput)),
    )
    once, again = (replace(run, stall_s=stall) for stall in (1.0, 1.0 + STEP_S / 2))
    yield row(
        "quorum: 1 s to agree; half a step on average that is done again",
        share(float(goodput(once, "quorum").goodput)),
        share(float(goodput(again, "quorum").goodput)),
    )


def absences() -> Iterator[str]:
    """What it matters by which clock a world is away."""
    yield "\n## A world's absence by the wall clock\n"
    yield head("GPUs, stall", "in working time (closed form)", "by the wall clock (event by event)")
    for gpus, stall_s in ((1e6, 30.0), (1e6, 180.0), (1e7, 1.0), (1e7, 10.0), (1e7, 180.0)):
        run = replace(bare(gpus, 8192.0), stall_s=stall_s, absent_s=600.0)
        yield row(
            f"{gpus:,.0f}, {stall_s:g} s", share(float(goodput(run, "quorum").goodput)),
            share(by_the_wall_clock(run, 60_000)),
        )  # fmt: skip


def by_the_wall_clock(run: Run, events: int) -> float:
    """Return goodput when worlds come back after `absent_s`, stalls included; seed 0.

    Between two failures worlds return at known times: the work of each stretch is its length, less
    what each absent world misses of it.
    """
    rng, worlds = np.random.default_rng(0), round(run.gpus / run.world_gpus)
    back = np.zeros(worlds)
    now = useful = 0.0
    for until in rng.exponential(run.mtbf_s, events):
        missed = np.clip(back - now, 0.0, until).sum()
        useful += until - missed / worlds
        now += until
        back[rng.integers(worlds)] = now + run.absent_s
        now += run.stall_s
    return useful / now


def story() -> Iterator[str]:
    """Size and cost of a timeline."""
    run = fleet(10_000_000, 1.0)
    start = time.process_time()
    events = timeline(run, "islands-quorum", days=DAYS, seed=1)
    text = json.dumps(chrome_trace(events, run), separators=(",", ":"))
    used = time.process_time() - start
    count = sum(event.count for event in events)
    yield (
        f"\nTimeline of {DAYS:g} days: {count:,} events in {len(events):,} entries, "
        f"{len(text) / 1e6:.1f} MB, {used:.1f} CPU s."
    )


def main() -> None:
    """Print every table."""
    parts = (
        agreement, known_tables, corrections, absences, published, hundred_days, story, what_matters
    )  # fmt: skip
    for part in parts:
        for line in part():
            print(line, flush=True)


if __name__ == "__main__":
    main()
