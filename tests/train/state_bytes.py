"""What a rank holds after a step, in bytes: its parts of weights, gradients, optimizer state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.train.parity import BATCH, SEQ_LEN, Case, build, make_step

from crore.catalog import load_catalog
from crore.cost import Job, Layout, machine_of, shape_of, stack_of
from crore.cost.memory import state_parts
from crore.train.local import local_part


@dataclass(frozen=True, kw_only=True, slots=True)
class StateBytes:
    """Bytes of one rank, by what they are."""

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All three."""
        return self.weights + self.gradients + self.optimizer


def counted(cases: Sequence[Case]) -> list[StateBytes]:
    """Make one step of each case on this rank and count the local tensors that are left."""
    return [_counted(case) for case in cases]


def _counted(case: Case) -> StateBytes:
    engine, optimizer = build(case)
    make_step(engine, optimizer)
    named = dict(engine.named_parameters())
    gradients = [p.grad for p in named.values() if p.grad is not None]
    assert len(gradients) == len(named)
    return StateBytes(
        weights=sum(local_part(p).nbytes for p in named.values()),
        gradients=sum(local_part(g).nbytes for g in gradients),
        optimizer=sum(local_part(t).nbytes for t in optimizer.state_tensors().values()),
    )


def planned(case: Case) -> StateBytes:
    """Return what the plan says of the fullest rank, for a fully sharded layout in 32 bits."""
    split = case.split
    machine = machine_of(load_catalog().accelerator("cpu-2core"), "fp32")
    layout = Layout(
        dp_shard=float(split.dp_shard), zero=float(split.zero), micro_batch=float(split.micro_batch)
    )
    job = Job(
        shape=shape_of(case.spec), stack=stack_of("crore"), machine=machine, layout=layout,
        seq_len=float(SEQ_LEN), global_batch=float(BATCH),
    )  # fmt: skip
    parts = state_parts(job)
    return StateBytes(
        weights=int(parts["weights"]),
        gradients=int(parts["gradients"]),
        optimizer=int(parts["optimizer"]),
    )
