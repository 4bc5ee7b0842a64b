"""A world of up to 100,000 ranks in one process: fake tensors, and groups that send nothing.

The worlds and islands above it are numbers (`place`), never process groups of this world.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode

from crore.model.private import fake_world, forget_shardings
from crore.rehearse.messages import Message
from crore.rehearse.trace import Stage, Trace, Work
from crore.train.live import MADE

ROUNDS: Final = 3
"""Micro-batches that differ where no pipeline holds several at once."""
MIDDLE: Final = 1
"""The one of them that stands for all between the first and the last."""
TOKEN_BYTES: Final = 8


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


def rehearse(work: Work, rank: int, *, whole: bool = False) -> Trace:
    """Take one step of the trainer as `rank` of a world, and return what it did.

    Of many micro-batches that are alike one is run and the others are booked, unless `whole`.
    """
    torch.set_num_threads(1)
    few = work if whole else few_rounds(work)
    with seen_from(rank, work.split.ranks) as fake:
        trace = Stage(few, allocation=lambda: fake, seed=None).trace(whole=whole)
    return many_rounds(trace, work) if few is not work else trace


def few_rounds(work: Work) -> Work:
    """Return work of no more micro-batches than differ, where no pipeline holds several at once.

    The first finds no gradients, the last reduces them, those between are alike.
    """
    each = work.split.dp * work.split.micro_batch
    if work.split.pp > 1 or work.global_batch <= ROUNDS * each:
        return work
    return replace(work, global_batch=ROUNDS * each)


def many_rounds(trace: Trace, work: Work) -> Trace:
    """Return the trace of all micro-batches from that of `few_rounds`."""
    more = work.split.micro_batches(work.global_batch) - ROUNDS
    flops, operations = trace.by_round[MIDDLE]
    messages: list[Message] = []
    for number, round_ in itertools.groupby(trace.messages, lambda m: m.micro_batch):
        once = list(round_)
        if number < MIDDLE:
            messages += once
        elif number == MIDDLE:
            again = range(MIDDLE, MIDDLE + more + 1)
            messages += [replace(m, micro_batch=k) for k in again for m in once]
        else:
            messages += [replace(m, micro_batch=m.micro_batch + more) for m in once]
    tokens = more * work.split.micro_batch * (work.seq_len + 1) * TOKEN_BYTES
    # Inputs and targets are copied out for the rank's part of each sequence, for all at once.
    copies = 2 * more * work.split.micro_batch * work.seq_len // work.split.cp * TOKEN_BYTES
    kinds = Counter(trace.peak_kinds)
    kinds.update({"tokens": tokens, MADE: copies})
    return replace(
        trace, messages=tuple(messages), flops=trace.flops + more * flops,
        operations=trace.operations + more * operations, by_round={},
        peak_kinds=dict(kinds), peak_bytes=trace.peak_bytes + tokens + copies,
        kept_bytes=trace.kept_bytes + tokens,
    )  # fmt: skip
