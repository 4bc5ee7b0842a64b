"""Whole steps of the trainer's own engine, clipping and optimizer, on the reference models."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Final

import torch

from crore.model.mesh import make_world
from crore.model.parallelize import BuildOptions
from crore.model.split import Split
from crore.train.calibrate.remainder import (
    MICRO_BATCH,
    MICRO_BATCHES,
    SEQ_LEN,
    references,
    zero_stages,
)
from crore.train.engine import Engine
from crore.train.optim import OptimSettings, build_optimizer
from crore.train.update import shared_sums, update

CLIP: Final = 1.0
SAMPLES: Final = 3
"""Of each reference: every rank takes the same number, or one would wait for ever."""


def measure_steps(processes: int, zero: str, device: str) -> tuple[float, ...]:
    """Return seconds of a step of each reference: the median, the first left out.

    The better of two rounds' medians is near the lower quartile of them all. On the default
    process group where there are several processes; `zero` is of `zero_stages`.
    """
    split = Split(dp_shard=processes, zero=zero_stages(processes)[zero], micro_batch=MICRO_BATCH)
    world, batch = make_world(split, torch.device(device)), processes * MICRO_BATCH * MICRO_BATCHES
    made = []
    for spec in references():
        step = _step(Engine(spec, SEQ_LEN, world, BuildOptions(), global_batch=batch))
        step()
        made.append(statistics.median(_seconds(step) for _ in range(SAMPLES)))
    return tuple(made)


def _step(engine: Engine) -> Callable[[], None]:
    named = dict(engine.named_parameters())
    optimizer = build_optimizer("adamw", named, OptimSettings(lr=1e-3))
    own = torch.randint(engine.spec.vocab, (MICRO_BATCH * MICRO_BATCHES, SEQ_LEN + 1))

    def step() -> None:
        optimizer.zero_grad()
        engine.backward(own)
        square, *_ = shared_sums(engine, named, 0.0).tolist()
        update(engine, named, optimizer, norm=math.sqrt(square), clip=CLIP, lr_factor=1.0)

    return step


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
