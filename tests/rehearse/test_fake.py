"""Micro-batches that are only booked, against a trace in which all are run."""

from __future__ import annotations

import resource
import time

import pytest
import torch.distributed as dist
from tests.rehearse.plans import PLANS, ends

from crore.rehearse.fake import rehearse
from crore.rehearse.place import Fleet

OWN = ("dense", "untied", "deep", "experts")
LONGER = 3
"""Times the micro-batches of the table's plans."""
SMALL = [case._replace(rounds=LONGER * case.rounds) for case in PLANS if case.model in OWN]
PUBLISHED = [case._replace(rounds=LONGER * case.rounds) for case in PLANS if case.model not in OWN]


def check(case) -> None:
    """Hold the booked step against the whole one, on a rank of each kind."""
    work = case.work()
    for rank in ends(work.split):
        booked, whole = rehearse(work, rank), rehearse(work, rank, whole=True)
        assert booked.messages == whole.messages
        assert booked.flops == whole.flops
        assert booked.peak_bytes == whole.peak_bytes
        assert booked.peak_kinds == whole.peak_kinds


EVERY_DAY = ("zero1", "full recompute", "interleaved shards", "zero bubble bf16", "ep pp")
CASES = [
    pytest.param(case, id=case.name, marks=[pytest.mark.drill] * (case.name not in EVERY_DAY))
    for case in SMALL
]


@pytest.mark.parametrize("case", CASES)
def test_booked_is_what_a_longer_trace_counts(case):
    check(case)


@pytest.mark.drill
@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name)
def test_booked_is_what_a_longer_trace_counts_of_published_models(case):
    check(case)


def test_no_world_is_left_behind():
    rehearse(PLANS[0].work(), 0)
    assert not dist.is_initialized()


def test_a_rehearsal_does_not_grow_with_worlds_and_islands():
    """Work and memory of one rank are its world's: the fleet above it is a few numbers."""
    case = next(case for case in PLANS if case.name == "composed")
    work, spent, traces = case.work(), [], []
    for islands, worlds in ((1, 8), (20, 1_250_000)):
        fleet = Fleet(islands=islands, worlds=worlds, ranks=work.split.ranks)
        place = fleet.place(fleet.gpus - 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        traces.append(rehearse(work, place.rank))
        fleet.quorum(place), fleet.outer(place)
        spent.append(time.process_time() - start)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert traces[0].operations == traces[1].operations
    assert traces[0].messages == traces[1].messages
    assert grown < 100_000  # KiB, of the larger fleet
