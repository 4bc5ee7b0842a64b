"""The planner's closed form of a pipeline against the same pipeline played event by event.

    python benchmarks/schedules.py [pipelines] [jobs]

`pipelines`: 640 random ones (schedule, ranks, chunks, micro-batches, passes), even, with uneven
stages, a head or jitter, and 128 with a head and messages between stages. `jobs`: plans' steps
drawn from their operation lists. Without words, both, in a minute. Prints a table of each, the same
numbers every time, and fails where a step is beyond 3 %.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crore.catalog import load_catalog
from crore.cost import Job, Layout, machine_of, shape_of, stack_of
from crore.cost.pipeline import Pipeline, waiting
from crore.cost.schedules import SCHEDULE_NAMES, SCHEDULES, least_micro_batches, schedule_code
from crore.cost.stragglers import barrier_slowdown
from crore.simulate.schedules import Jitter, StageTimes, job_timeline, simulate_schedule
from crore.simulate.schedules.passes import FOLDED, chunk_share, ways

PER_CELL = 16
"""Pipelines of each schedule and kind."""
SPREAD, HEAD, RANK_CV, PASS_CV, HOP = 0.2, 0.4, 0.02, 0.05, 0.05
"""At most: a stage's time over the mean, a head's over a rank's, coefficients of variation, and a
message's time over a rank's forward pass."""
DRAWS = 40
KINDS = ("even", "uneven", "head", "rank jitter", "pass jitter")
SENT = "messages"
LIMIT = 0.03
FOLDED_CHUNKS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """One random pipeline."""

    name: str
    ranks: int
    chunks: int
    micro_batches: int
    times: StageTimes
    jitter: Jitter | None


def drawn(rng: np.random.Generator, name: str, kind: str) -> Drawn:
    """Return a pipeline whose input gradient is its longest pass, as in a transformer."""
    ranks = 2 * int(rng.integers(1, 9))
    chunks = {"interleaved": int(rng.integers(2, 5))}.get(name, 1)
    if name in ("zb-v", "dualpipe", "dualpipe-v"):
        chunks = FOLDED_CHUNKS
    least = int(np.asarray(least_micro_batches(float(schedule_code(name)), 1.0)))
    micro_batches = ranks * int(rng.integers(max(1, least), 9))
    stages = ways(name, ranks, chunks)
    weight = np.ones(len(stages[0]))
    if kind == "uneven":
        weight += rng.uniform(0, SPREAD) * rng.uniform(-1, 1, weight.size)
    if kind in ("head", SENT):
        weight[-1] += rng.uniform(0, HEAD) * weight.size / ranks
    each = np.zeros((ranks, chunks))
    for way in stages:
        for number, place in enumerate(way):
            each[place] = weight[number] * chunk_share(name, chunks)
    forward, inputs, weights = 1.0, rng.uniform(1, 1.6), rng.uniform(0.6, 1)
    times = StageTimes(
        forward_s=forward * each, input_s=inputs * each, weight_s=weights * each,
        transfer_s=0 * each + (rng.uniform(0, HOP) if kind == SENT else 0.0),
    )  # fmt: skip
    cv = {"rank jitter": {"rank_cv": rng.uniform(0, RANK_CV)},
          "pass jitter": {"pass_cv": rng.uniform(0, PASS_CV)}}.get(kind)  # fmt: skip
    jitter = Jitter(draws=DRAWS, seed=int(rng.integers(1 << 30)), **cv) if cv else None
    return Drawn(name=name, ranks=ranks, chunks=chunks, micro_batches=micro_batches,
                 times=times, jitter=jitter)  # fmt: skip


def played_s(it: Drawn) -> float:
    """Return the mean step: where steps overlap, the longest rank's own."""
    played = simulate_schedule(it.name, it.micro_batches, it.times, it.jitter)
    overlap = SCHEDULES[schedule_code(it.name)].steps_overlap
    steps = played.span_s.max(axis=0) if overlap else played.makespan_s
    return float(steps.mean())


def planned_s(it: Drawn) -> float:
    """Return the planner's step: slowest rank, bubble of the others' mean, wait for the slowest.

    A step's noise on one rank is the rank's own, or that of its passes averaged over the step.
    """
    code, ranks = float(schedule_code(it.name)), float(it.ranks)
    vpp = float(it.chunks) if it.name == "interleaved" else 1.0
    copies = 2.0 if it.name == "dualpipe" else 1.0
    parts = (it.times.forward_s, it.times.input_s, it.times.weight_s)
    by_rank = [part.sum(axis=1) / copies for part in parts]
    whole = sum(by_rank, start=np.zeros(it.ranks))
    slow = int(whole.argmax())
    others = [float((x.sum() - x[slow]) / (ranks - 1)) for x in by_rank]
    waits = waiting(Pipeline(
        code=code, pp=ranks, vpp=vpp, micro_batches=float(it.micro_batches), forward_s=others[0],
        backward_s=others[1], weight_s=others[2], longer_s=float(whole[slow]) - sum(others),
        away=away(it, slow), hop_s=float(it.times.transfer_s.max()),
    ))  # fmt: skip
    even = it.micro_batches * float(whole[slow]) + float(waits.bubble_s + waits.messages_s)
    return even * float(barrier_slowdown(ranks, _noise(it)))


def away(it: Drawn, rank: int) -> float:
    """Return how far a rank is from the one with the head, or from the nearer of DualPipe's two."""
    last = it.ranks - 1
    if it.name == "dualpipe":
        return min(rank, last - rank) / max(it.ranks // 2 - 1, 1)
    return (rank if it.name in FOLDED else last - rank) / last


def _noise(it: Drawn) -> float:
    if it.jitter is None:
        return 0.0
    passes = np.stack([it.times.forward_s, it.times.input_s, it.times.weight_s])
    averaged = float(np.sqrt((passes**2).sum() / it.micro_batches / it.ranks) / passes.sum())
    return it.jitter.rank_cv + it.jitter.pass_cv * averaged * it.ranks


def table(rows: dict[tuple[str, str], list[float]]) -> int:
    """Print planned over played, less one, by two words; return how many are beyond the limit."""
    print("| schedule | | n | mean | from | to | beyond 3 % |")
    print("|---|---|---|---|---|---|---|")
    for (name, kind), errors in rows.items():
        x = 100 * np.array(errors)
        beyond = int((np.abs(x) > 100 * LIMIT).sum())
        print(
            f"| {name} | {kind} | {x.size} | {x.mean():+.1f} % | {x.min():+.1f} % | "
            f"{x.max():+.1f} % | {beyond} |"
        )
    every = 100 * np.abs(np.concatenate(list(rows.values())))
    beyond = int((every > 100 * LIMIT).sum())
    print(f"{beyond} of {every.size} beyond 3 %, the farthest {every.max():.1f} %")
    return beyond


def pipelines() -> int:
    """Print how far the form is from random pipelines; return how many are beyond the limit."""
    rows: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed, kinds in enumerate((KINDS, (SENT,))):
        rng = np.random.default_rng(seed)
        for name in SCHEDULE_NAMES:
            for kind in kinds:
                for _ in range(PER_CELL):
                    it = drawn(rng, name, kind)
                    rows[name, kind].append(planned_s(it) / played_s(it) - 1)
    return table(rows)


MODELS = (
    ("llama3-8b", "crore", {"pp": 4, "tp": 2, "zero": 1}),
    ("llama3-8b", "torchtitan", {"pp": 4, "tp": 2}),
    ("llama3-70b", "torchtitan", {"pp": 8, "tp": 4, "sequence_parallel": 1}),
    ("llama-3.1-405b", "megatron-2025", {"pp": 16, "tp": 8, "sequence_parallel": 1}),
    ("mixtral-8x7b", "megatron-2025", {"pp": 4, "tp": 2, "ep": 8}),
)


def _jobs(schedule: str) -> Iterator[tuple[str, Job]]:
    catalog, code = load_catalog(), schedule_code(schedule)
    for model, stack, split in MODELS:
        for rounds in (2, 4, 16):
            columns = {"dp_shard": 8, "vpp": 2 if schedule == "interleaved" else 1} | split
            layout = Layout(schedule=float(code), **{k: float(v) for k, v in columns.items()})
            yield model, Job(
                shape=shape_of(catalog.model(model)), stack=stack_of(stack), layout=layout,
                machine=machine_of(catalog.accelerator("h100-sxm"), "bf16"), seq_len=4096.0,
                global_batch=8.0 * rounds * split["pp"],
            )  # fmt: skip


def jobs() -> int:
    """Print how far the planned step is from the drawn one, messages and data parallelism in it.

    Returns how many are beyond the limit.
    """
    rows: dict[tuple[str, str], list[float]] = defaultdict(list)
    for schedule in SCHEDULE_NAMES:
        for model, job in _jobs(schedule):
            rows[schedule, model].append(1 / (1 + job_timeline(job).gap) - 1)
    return table(rows)


PARTS = {"pipelines": pipelines, "jobs": jobs}

if __name__ == "__main__":
    beyond = 0
    for word in sys.argv[1:] or PARTS:
        beyond += PARTS[word]()
        print()
    sys.exit(int(beyond > 0))
