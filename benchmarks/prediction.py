"""Step time and peak memory as planned for this machine, against what a bare loop measures.

    crore calibrate && python benchmarks/prediction.py [MODEL ...]

Prints one line per model and way to run it; writes nothing. Run it on a machine that does nothing
else: what disturbs a step is not predicted.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context
from typing import Any, NamedTuple

MODELS = ("nano-1m", "nano-5m", "nano-20m")
SEQ_LEN, BATCH, MICRO_BATCH = 256, 16, 4
STEPS = 8


class Case(NamedTuple):
    """One run."""

    model: str
    processes: int
    zero: int


class Measured(NamedTuple):
    """What one rank saw."""

    steps_s: list[float]
    peak_bytes: float
    """Of tensors."""


def planned(case: Case) -> Any:
    """Return the plan of one case, its layout pinned."""
    from crore.plan import PlanRequest, make_plan

    pins: dict[str, int | str] = {"micro_batch": MICRO_BATCH, "recompute": "none", "tp": 1, "pp": 1,
                                  "cp": 1, "zero": case.zero}  # fmt: skip
    if case.processes > 1:
        pins |= {"dp_shard": case.processes}
    return make_plan(
        PlanRequest(
            model=case.model, cluster="this-machine", gpus=case.processes, precision="fp32",
            stack="crore", seq_len=SEQ_LEN, global_batch=BATCH, tokens=10**8, fix=pins,
        )
    ).plan  # fmt: skip


def run_rank(rank: int, case: Case, threads: int, folder: str) -> Measured:
    """Train a few steps as one rank, one of them under the eye of a counter of live tensors."""
    import torch
    import torch.distributed as dist

    from crore.catalog import load_catalog
    from crore.model.mesh import make_world
    from crore.model.parallelize import BuildOptions
    from crore.model.split import Split
    from crore.train.engine import Engine
    from crore.train.live import LiveBytes
    from crore.train.optim import OptimSettings, build_optimizer
    from crore.train.update import shared_sums, update

    torch.set_num_threads(threads)
    if case.processes > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=case.processes
        )
    split = Split(dp_shard=case.processes, zero=case.zero, micro_batch=MICRO_BATCH)
    spec = load_catalog().model(case.model)
    world = make_world(split, torch.device("cpu"))
    engine = Engine(spec, SEQ_LEN, world, BuildOptions(), global_batch=BATCH)
    named = dict(engine.named_parameters())
    optimizer = build_optimizer("adamw", named, OptimSettings(lr=1e-3))
    own = torch.randint(spec.vocab, (BATCH // case.processes, SEQ_LEN + 1))

    def step() -> None:
        optimizer.zero_grad()
        engine.backward(own)
        square, *_ = shared_sums(engine, named, 0.0).tolist()
        update(engine, named, optimizer, norm=math.sqrt(square), clip=1.0, lr_factor=1.0)

    step()
    live = LiveBytes([*named.values(), *optimizer.state_tensors().values()])
    with live:
        step()
    taken = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    if case.processes > 1:
        dist.destroy_process_group()
    return Measured(taken, live.peak_bytes)


def measured(case: Case, threads: int) -> Measured:
    """Return step times of rank 0 and the largest peak of all ranks."""
    with tempfile.TemporaryDirectory() as folder:
        context = get_context("spawn")
        with context.Pool(case.processes) as pool:
            ranks = [(rank, case, threads, folder) for rank in range(case.processes)]
            made = pool.starmap(run_rank, ranks, chunksize=1)
    return Measured(made[0].steps_s, max(it.peak_bytes for it in made))


def main(models: list[str]) -> None:
    """Print the table."""
    print(f"seq {SEQ_LEN}, {BATCH} sequences a step in micro-batches of {MICRO_BATCH}; ms and MB")
    print("model     run       predicted  quartile (median)    error   predicted  measured   error")
    for model in models:
        for case in (Case(model, 1, 1), Case(model, 2, 1), Case(model, 2, 3)):
            plan = planned(case)
            machine = plan.question.accelerator.measured
            found = measured(case, machine.setting.threads if machine else 1)
            quick = statistics.quantiles(found.steps_s, n=4)[0]
            tensors = plan.memory_bytes - plan.memory_split_bytes["context"]
            print(
                f"{model:<10}{case.processes} zero{case.zero}{1e3 * plan.step_time_s.value:11.0f}"
                f"{1e3 * quick:10.0f} ({1e3 * statistics.median(found.steps_s):6.0f})"
                f"{100 * (plan.step_time_s.value / quick - 1):+9.1f} %{tensors / 1e6:10.1f}"
                f"{found.peak_bytes / 1e6:11.1f}{100 * (tensors / found.peak_bytes - 1):+8.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or list(MODELS))
