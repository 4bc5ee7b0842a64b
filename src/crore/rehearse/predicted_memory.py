"""What the planner says a rank holds at the peak of a step, by the kinds that a ledger counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crore.cost.memory_eager import rank_memory
from crore.rehearse.predicted import job_of
from crore.rehearse.trace import Work

KINDS = ("weights", "gradients", "optimizer", "gathered", "made")
MADE = ("activations", "logits", "working")
"""Parts of what operations make."""


def predicted_memory(work: Work, rank: int, *, cpu: bool = True) -> dict[str, float]:
    """Return bytes at a rank's peak on a CPU's kernels, as a trace counts them, or on a card's.

    `weights`, `optimizer`, `gradients`, `gathered` and `made`, whose parts stand beside it:
    `activations` kept for backward passes, `logits`, `working`.
    """
    job = job_of(work, rank)
    place = job.place
    assert place is not None
    job = replace(job, machine=replace(job.machine, cpu=float(cpu)))
    position = rank // (work.split.ranks // work.split.pp)
    parts = {k: float(np.asarray(v)) for k, v in rank_memory(job, place, position).items()}
    parts["gathered"] = parts.pop("gathered layers")
    return parts | {"made": sum(parts[name] for name in MADE)}


def fewer_on_a_card(work: Work, rank: int) -> float:
    """Return the bytes that a card's kernels keep less than a processor's, as planned.

    No trace can confirm them: a card's fused kernels keep fewer copies.
    """
    here, there = (predicted_memory(work, rank, cpu=cpu) for cpu in (True, False))
    return sum(here[kind] - there[kind] for kind in KINDS)
