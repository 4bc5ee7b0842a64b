"""Before a run starts: room for its ranks, and a port that is free."""

from __future__ import annotations

import os
import socket

import pytest
from tests.train.tiny import home, job

from crore.errors import InputError
from crore.train.start import RANKS_PER_CORE, check_start
from crore.train.worker import check_world
from crore.train.world import Membership


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    return home(tmp_path)


def test_more_ranks_than_a_machine_runs_are_refused_with_both_numbers(root, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    check_start(job(root, dp_shard=2 * RANKS_PER_CORE), 0)
    with pytest.raises(InputError, match="for 16 ranks and this machine runs 8 processes") as told:
        check_start(job(root, dp_shard=4, tp=4), 0)
    assert "--gpus 8" in str(told.value)


def test_a_port_in_use_is_refused_before_anything_starts(root):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be used .*--port"):
            check_start(job(root, dp_shard=2), port)
        check_start(job(root), port)  # one rank needs none
    check_start(job(root, dp_shard=2), port)


def test_a_world_of_another_size_than_the_plan_is_refused(root, monkeypatch):
    who = Membership(rank=0, ranks=4, local_rank=0, local_ranks=4)
    with pytest.raises(InputError, match="for 2 ranks and this world has 4: start 2 processes"):
        check_world(job(root, dp_shard=2), who)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "0")
    for name, value in (("WORLD_SIZE", "3"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="this world has 3"):
        check_start(job(root, dp_shard=2), 0)
