"""A world of a fleet as a job and as a process: folder, logs, room for rows, how it ends."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.train.tiny import home, job

from crore.errors import InputError
from crore.model.split import Split
from crore.train.fault.member import next_log, seated
from crore.train.fault.seat import Seat
from crore.train.fault.shares import share_of
from crore.train.fault.worlds import World
from crore.train.settings import _check_fleet, _outer


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return home(tmp_path_factory.mktemp("home"))


def test_each_start_of_a_world_has_a_log_of_its_own(root):
    made = job(root)
    first = seated(made, Seat(world=3, worlds=4))
    assert first.folder == made.folder / "world-00003"
    assert first.log == first.folder / "run-0.jsonl"
    assert first.seat is not None
    first.folder.mkdir()
    for name in ("run-0.jsonl", "run-2.jsonl", "run-x.jsonl", "run.jsonl", "run-10.jsonl"):
        (first.folder / name).touch()
    assert next_log(first.folder) == "run-11.jsonl"  # the tenth comes after the second
    assert seated(made, first.seat).log.name == "run-11.jsonl"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    worlds=st.integers(1, 6), islands=st.integers(1, 3), own=st.integers(1, 40),
    micro=st.integers(1, 3), dp=st.integers(1, 2), pp=st.integers(1, 2),
)  # fmt: skip
def test_a_world_makes_room_for_as_many_rows_as_it_is_given(
    root, worlds, islands, own, micro, dp, pp
):
    seat = Seat(world=0, worlds=worlds, islands=islands)
    split = Split(micro_batch=micro, dp_shard=dp, pp=pp)
    made = replace(job(root), seat=seat, split=split)
    unit, batch = micro * dp * pp, own * islands
    share = share_of(seat, 0, worlds, 0, batch, unit, equal=pp > 1)
    assert made.rows(batch) == share.rows
    assert made.split.micro_batches(made.rows(batch)) * made.split.dp * micro == share.rows
    assert job(root).rows(batch) == batch


def test_what_the_plan_says_of_the_outer_step_holds_unless_it_is_asked_otherwise():
    planned = {"interval": 20, "bits": 4}
    outer = _outer(planned, {})
    assert (outer.interval, outer.bits, outer.fragments, outer.nesterov) == (20, 4, 1, True)
    asked = _outer(planned, {"fragments": 4.0, "overlap": 2.0, "lr": 1.0, "momentum": 0.0})
    assert (asked.fragments, asked.overlap, asked.lr, asked.momentum) == (4, 2, 1.0, 0.0)
    assert (asked.spacing, asked.nesterov) == (5, False)
    with pytest.raises(InputError, match="not cut evenly into 7 fragments"):
        _outer(planned, {"fragments": 7.0})


@pytest.mark.parametrize(("worlds", "islands", "sequences"), [(3, 2, 8), (4, 2, 9)])
def test_islands_that_do_not_divide_a_fleet_are_refused(worlds, islands, sequences):
    with pytest.raises(InputError, match=r"2 islands must divide the . worlds and the . sequences"):
        _check_fleet(worlds, islands, sequences)
    _check_fleet(4, 2, 8)


def test_a_world_that_cannot_start_says_why_in_one_line(root, tmp_path):
    made = job(root, "broken", dp_shard=2)
    seat = Seat(world=1, worlds=1)
    for name, content in (("job", made), ("seat", seat)):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    environment = {"RANK": "0", "WORLD_SIZE": "1"}  # of a launcher that says too little
    done = subprocess.run(
        [sys.executable, "-m", "crore.train.fault.member", str(tmp_path / "job"),
         str(tmp_path / "seat")],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("crore: world 1: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_world_as_a_process_prints_into_its_folder_and_is_ended_with_its_children(tmp_path):
    script = ("sh", "-c", "sleep 99 & echo $!; wait")
    world = World(seat=Seat(world=2, worlds=4), folder=tmp_path, before=script)
    world.kill()  # one that was never started is no error
    world.start(tmp_path / "job.pickle")
    own = tmp_path / "world-00002"
    assert pickle.loads((own / "seat.pickle").read_bytes()) == world.seat  # noqa: S301 - our own
    end_s = time.monotonic() + 120
    while not (child := (own / "output.txt").read_text().strip()):
        assert time.monotonic() < end_s
        time.sleep(0.02)
    world.slow()
    slowness = world.slowed
    world.kill()
    assert (world.code, world.starts, world.slowed) == (-signal.SIGKILL, 1, None)
    assert slowness is not None
    assert slowness.is_set()
    while alive(child):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def alive(process: str) -> bool:
    """Return whether a process runs; one that nobody has waited for does not."""
    path = Path("/proc", process, "stat")
    try:
        return path.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
