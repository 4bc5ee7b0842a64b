"""The helper that runs small worlds."""

from __future__ import annotations

import os
import time

import pytest
import torch
import torch.distributed as dist
from tests.train.gloo import run


def reduced(offset):
    value = torch.tensor([dist.get_rank() + offset])
    dist.all_reduce(value)
    return int(value), dist.get_rank(), torch.get_num_threads()


def one_raises():
    if dist.get_rank() == 1:
        raise ValueError("rank 1 is unhappy")
    dist.barrier()


def one_vanishes():
    if dist.get_rank() == 1:
        os._exit(7)
    time.sleep(60)


def test_results_come_back_by_rank(tmp_path):
    assert run(reduced, 3, tmp_path, 10) == [(33, rank, 1) for rank in range(3)]


def test_two_worlds_share_a_folder(tmp_path):
    assert run(reduced, 2, tmp_path, 0)[0][0] == 1
    assert run(reduced, 1, tmp_path, 5)[0][0] == 5


def test_the_traceback_of_the_rank_that_raised_comes_first(tmp_path):
    with pytest.raises(AssertionError, match=r"(?s)\Arank 1:.*in one_raises.*rank 1 is unhappy"):
        run(one_raises, 2, tmp_path)


def test_a_rank_that_vanishes_is_named(tmp_path):
    with pytest.raises(AssertionError, match="rank 1 ended with code 7 and left no result"):
        run(one_vanishes, 2, tmp_path)
