"""A world of up to 100,000 ranks in one process: fake tensors, and groups that send nothing.

The worlds and islands above it are numbers (`place`), never process groups of this world.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode

from crore.model.private import fake_world, forget_shardings
from crore.rehearse.trace import Stage, Trace, Work


@contextmanager
def seen_from(rank: int, ranks: int) -> Iterator[FakeTensorMode]:
    """Be one rank of a world that does not exist; gives the mode that makes fake tensors."""
    assert not dist.is_initialized()
    fake_world(ranks, rank)
    try:
        yield FakeTensorMode(allow_non_fake_inputs=True)
    finally:
        dist.destroy_process_group()
        forget_shardings()


def rehearse(work: Work, rank: int) -> Trace:
    """Take one step of the trainer as `rank` of a world, and return what it did."""
    torch.set_num_threads(1)
    with seen_from(rank, work.split.ranks) as fake:
        return Stage(work, allocation=lambda: fake, seed=None).trace()
