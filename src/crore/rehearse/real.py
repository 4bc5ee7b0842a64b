"""The same step on real processes that send to each other, counted the same way."""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import Final

from crore.errors import InputError
from crore.rehearse.trace import Stage, Trace, Work

MOST_PROCESSES: Final = 64


def run(work: Work) -> list[Trace]:
    """Return what every rank of a world did, each a process of this machine, by rank.

    The second step is counted: the first one makes what stays, and meets its neighbours. Raises
    InputError for more ranks than a machine runs.
    """
    ranks = work.split.ranks
    if ranks > MOST_PROCESSES:
        raise InputError(f"a real run has at most {MOST_PROCESSES} processes, not {ranks:,}")
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(ranks) as pool,
    ):
        # In any order: a rank that fails must be heard while the others wait for it.
        given = [(work, rank, folder) for rank in range(ranks)]
        return sorted(pool.imap_unordered(_rank, given), key=lambda trace: trace.rank)


def _rank(given: tuple[Work, int, str]) -> Trace:
    work, rank, folder = given
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    meeting = f"file://{Path(folder) / 'meet'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=work.split.ranks)
    try:
        stage = Stage(work)
        stage.step()
        return stage.trace()
    finally:
        dist.destroy_process_group()
