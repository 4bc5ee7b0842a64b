"""Faults on purpose: as asked, the same for the same seed, and no more than that."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from crore.errors import InputError
from crore.train.fault.chaos import BEAT_S, EVERY_S, FLIP, KINDS, SLOW, ask_flip, faults, send, slow
from crore.train.fault.chaos import parse_chaos as parse
from crore.train.fault.flip import BIT, flip_if_asked


def test_kinds_are_read_with_their_seconds():
    assert parse("kill=20,hang") == {"kill": 20.0, "hang": EVERY_S}
    assert parse(" slow=2.5s , corrupt=1e3 ,") == {"slow": 2.5, "corrupt": 1000.0}
    assert parse("") == {}
    assert set(parse(",".join(KINDS))) == set(KINDS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kil=20", "unknown fault 'kil'; did you mean kill?"),
        ("=20", "unknown fault ''"),
        ("kill=often", "--chaos kill=often: give seconds between two faults: kill=20"),
        ("kill=0", "--chaos kill=0: give seconds"),
        ("hang=-3", "--chaos hang=-3: give seconds between two faults: hang=20"),
        ("kill=nan", "--chaos kill=nan: give seconds"),
        ("kill=inf", "--chaos kill=inf: give seconds"),
        ("kill=20=30", "--chaos kill=20=30: give seconds"),
        ("kill=" + "9" * 999, "give seconds between two faults"),
    ],
)
def test_what_is_no_fault_is_one_clear_line(text, said):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 160


def test_a_seed_gives_one_schedule_whatever_else_is_asked():
    every = {"kill": 5.0, "slow": 9.0}
    assert faults(every, 3, 500) == faults(every, 3, 500)
    assert faults(every, 3, 500) != faults(every, 4, 500)
    kills = [it for it in faults(every, 3, 500) if it.kind == "kill"]
    assert kills == faults({"kill": 5.0}, 3, 500)
    assert kills == [it for it in faults({"kill": 5.0}, 3, 900) if it.at_s < 500]


def test_faults_come_in_the_order_of_time_and_end():
    found = faults({"kill": 2.0, "hang": 3.0, "corrupt": 7.0}, 0, 400.0)
    assert all(a.at_s <= b.at_s for a, b in pairwise(found))
    assert 0 < found[0].at_s <= found[-1].at_s < 400
    assert {it.kind for it in found} == {"kill", "hang", "corrupt"}
    assert all(0 <= it.draw < 1 for it in found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_times_are_those_of_a_poisson_process(kind):
    mean_s, until_s = 3.0, 30_000.0
    found = faults({kind: mean_s}, 11, until_s)
    expected = until_s / mean_s
    assert abs(len(found) - expected) < 4 * math.sqrt(expected)
    gaps = [b.at_s - a.at_s for a, b in pairwise(found)]
    # The standard deviation of an exponential is its mean, with a relative error of about 1/√n.
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert spread / mean == pytest.approx(1, abs=4 * math.sqrt(2 / len(gaps)))
    longer = sum(gap > mean_s for gap in gaps) / len(gaps)
    assert longer == pytest.approx(1 / math.e, abs=4 * 0.5 / math.sqrt(len(gaps)))
    assert sum(it.draw for it in found) / len(found) == pytest.approx(0.5, abs=0.02)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_of_time(pid: int) -> float:
    """Return the share of a while that a process had a core."""
    began_s, before = time.monotonic(), cpu_s(pid)
    time.sleep(10 * BEAT_S)
    return (cpu_s(pid) - before) / (time.monotonic() - began_s)


def test_a_slowed_world_has_a_tenth_of_the_time_until_it_is_well():
    busy = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", busy], start_new_session=True) as process:
        try:
            stop = threading.Event()
            slow(process.pid, stop)
            time.sleep(BEAT_S)
            slowed = share_of_time(process.pid)
            stop.set()
            for thread in threading.enumerate():
                if thread.name == "crore-slow":
                    thread.join(60)  # whatever it did last, the world runs again
            assert "T" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]
        finally:
            send(process.pid, signal.SIGKILL)
    assert slowed < 4 / SLOW
    send(process.pid, signal.SIGKILL)  # one that is gone is no error


def test_one_bit_of_one_weight_flips_once_when_asked(tmp_path):
    weights = [torch.full((2, 3), 0.5), torch.full((7,), 0.25)]
    assert not flip_if_asked(tmp_path, weights, 4)
    ask_flip(tmp_path)
    assert flip_if_asked(tmp_path, weights, 9)
    assert not (tmp_path / FLIP).exists()
    assert not flip_if_asked(tmp_path, weights, 9)
    assert torch.equal(weights[0], torch.full((2, 3), 0.5))
    changed = (weights[1].view(torch.int32) ^ torch.full((7,), 0.25).view(torch.int32)).tolist()
    assert changed == [0, 0, 1 << BIT, 0, 0, 0, 0]
    ask_flip(tmp_path / "none")  # a folder that is gone is no error
