"""Worlds that stand still, and what their watchdogs say of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from tests.train.gloo import start
from tests.train.small import backward, small
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from crore.train.culprit import sign_of
from crore.train.hang import EXIT_CODE, Beat, Hung, Watchdog, connect

WAIT = timedelta(seconds=120)
END_S = 120.0
TIMEOUT_S = 5.0
"""A step takes less, however busy the machine."""


def served():
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=WAIT)


def watched(port, said, beat):
    """Return a watchdog that leaves what it says in a file of its rank."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    rank, world = dist.get_rank(), dist.get_world_size()

    def leave(line):
        Path(said, str(rank)).write_text(line)

    store = connect()
    return Watchdog(store, rank, world, beat, timeout_s=TIMEOUT_S, interval_s=0.25, on_hang=leave)


def train(port, said, name):
    """Train a sharded model, until at step 3 something happens on rank 1."""
    model, beat = small(), Beat()
    for layer in model.layers.values():
        fully_shard(layer, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    other = dist.new_group()
    with watched(port, said, beat):
        for step in range(6):
            beat.begin(step)
            beat.phase("forward")
            if (dist.get_rank(), step) == (1, 3):
                HAPPENS[name](beat, other)
            backward(model, step)
            beat.phase("gradient norm")
            dist.all_reduce(torch.ones(()))


def stop_process(_beat, _group):
    store = connect()
    while (said := sign_of(store.get("sign/1"))).step < 3 or said.phase != "forward":
        time.sleep(0.05)  # a sign is given from here
    os.kill(os.getpid(), signal.SIGSTOP)


def sleep(_beat, _group):
    time.sleep(END_S)


def other_collective(beat, group):
    beat.phase("evaluation")
    dist.barrier(group)


def slow_but_allowed(beat, _group):
    beat.phase("compile", allowed_s=END_S)
    time.sleep(1.5 * TIMEOUT_S)


HAPPENS = {f.__name__: f for f in (stop_process, sleep, other_collective, slow_but_allowed)}


@pytest.fixture
def port():
    """Port of a store in this process, as a launcher has it."""
    server = served()
    yield server.port
    del server


def codes(processes, ranks):
    """Return the exit codes of some ranks, which must come."""
    for rank in ranks:
        processes[rank].join(END_S)
    return [processes[rank].exitcode for rank in ranks]


def hung(name, tmp_path, port, ranks=2, ending=(0, 1)):
    """Return what the watchdogs said, once those that end have ended as a hang ends them."""
    with start(train, ranks, tmp_path, port, str(tmp_path), name) as (_, processes):
        assert codes(processes, ending) == [EXIT_CODE] * len(ending)
    lines = {(tmp_path / str(rank)).read_text() for rank in ending}
    assert len(lines) == 1, lines
    return lines.pop()


def test_a_stopped_process_is_named(tmp_path, port):
    line = hung("stop_process", tmp_path, port, ranks=3, ending=(0, 2))
    assert re.fullmatch(
        r"rank 1 hung: no sign for \d+ s, last seen at step 3 in forward; "
        r"ranks 0, 2 wait in \w*all_gather\w* \(forward\) at step 3",
        line,
    )


def test_a_rank_that_sleeps_is_named_and_ends_too(tmp_path, port):
    line = hung("sleep", tmp_path, port)
    assert re.fullmatch(
        r"rank 1 hung: \d+ s at step 3 in forward; "
        r"rank 0 waits in \w*all_gather\w* \(forward\) at step 3",
        line,
    )


def test_ranks_in_different_collectives_are_named_with_both(tmp_path, port):
    line = hung("other_collective", tmp_path, port)
    assert re.fullmatch(
        r"the ranks do not meet; rank 0 waits in \w*all_gather\w* \(forward\) at step 3; "
        r"rank 1 waits in barrier \(evaluation\) at step 3",
        line,
    )


def test_a_slow_phase_that_was_announced_is_waited_for(tmp_path, port):
    with start(train, 2, tmp_path, port, str(tmp_path), "slow_but_allowed") as (_, processes):
        assert codes(processes, (0, 1)) == [0, 0]
    assert not (tmp_path / "0").exists()


def hosted(said):
    """Rank 0 keeps the store itself and is stopped with it."""
    rank, beat = dist.get_rank(), Beat()
    server = served() if rank == 0 else None
    port = torch.tensor(server.port if server else 0)
    dist.broadcast(port, 0)
    with watched(int(port), said, beat):
        dist.barrier()  # a store that stops before all have reached it is another matter
        beat.phase("forward")
        if rank == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        dist.barrier()


def test_a_store_that_hangs_with_its_host_is_named(tmp_path):
    with start(hosted, 2, tmp_path, str(tmp_path)) as (_, processes):
        assert codes(processes, [1]) == [EXIT_CODE]
    assert re.fullmatch(
        r"the rendezvous store hung: no answer for \d+ s, so its host \(rank 0 or the launcher\) "
        r"is stopped or dead; rank 1 is in barrier \(forward\) at step 0",
        (tmp_path / "1").read_text(),
    )


def test_a_store_that_accepts_and_never_answers_is_not_waited_for_for_ever(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(mute.getsockname()[1]))
        monkeypatch.setattr("crore.train.hang.ANSWER_S", 0.5)
        with pytest.raises(Hung, match=r"store at 127.0.0.1:\d+ hung: no answer for 1 s"):
            connect()


def test_a_context_closed_in_time_says_nothing(port, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    said: list[str] = []
    with Watchdog(connect(), 0, 1, Beat(), timeout_s=60, interval_s=0.05, on_hang=said.append):
        time.sleep(0.2)
    assert b'"phase": "ended"' in connect().get("sign/0")
    assert said == []


def test_an_error_that_comes_of_a_verdict_reports_it(port, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    said: list[str] = []
    dog = Watchdog(
        connect(), 0, 1, Beat(), timeout_s=60, interval_s=60, on_hang=said.append, exit_code=None
    )
    connect().set("verdict", "rank 7 hung")
    with pytest.raises(RuntimeError, match="connection closed"), dog:
        raise RuntimeError("connection closed by peer")
    assert said == ["rank 7 hung"]
