"""A world whose network is cut off and comes back: the others go on, and it joins them again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.train.fault.fleet import job_for, prepared

from crore.train.fault.audit import audit
from crore.train.fault.supervisor import Fleet, Supervisor
from crore.train.fault.worlds import World

pytestmark = pytest.mark.drill
AWAY_S, MOST_S = 6.0, 30.0
"""The wire is cut for so long, or until the others have gone on, which is seconds later."""


def ip(*words: str) -> None:
    """Run the ip command."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def room(name: str, host: str, guest: str) -> Iterator[None]:
    """Give a network namespace of its own, on a wire to this one, with an address at each end."""
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here ({error})")
    try:
        ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}g", "netns", name)
        ip("addr", "add", f"{host}/30", "dev", f"{name}h")
        ip("link", "set", f"{name}h", "up")
        for words in (("addr", "add", f"{guest}/30", "dev", f"{name}g"),
                      ("link", "set", f"{name}g", "up"), ("link", "set", "lo", "up")):  # fmt: skip
            ip("-n", name, *words)
        yield
    finally:
        subprocess.run(["ip", "link", "del", f"{name}h"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Cut(Supervisor):
    """A fleet whose last world is in another room, whose wire is cut once."""

    name, host = "", ""
    cut_s: tuple[float, float] = (0.0, 0.0)

    def _start(self) -> None:
        for house in self.lighthouses:
            house.host = self.host
        super()._start()
        threading.Thread(target=self._cut, daemon=True).start()

    def _world(self, number: int) -> World:
        world = super()._world(number)
        there = number == self.fleet.worlds - 1
        world.environment = {"GLOO_SOCKET_IFNAME": f"{self.name}{'g' if there else 'h'}"}
        if there:
            world.before = ("ip", "netns", "exec", self.name)
        return world

    def _cut(self) -> None:
        last = self.fleet.worlds - 1
        while (seen := self.history.worlds.get(last)) is None or seen.step < 30:
            time.sleep(0.05)
        began_s, reached = time.time(), self._others()
        ip("-n", self.name, "link", "set", f"{self.name}g", "down")
        time.sleep(AWAY_S)
        while self._others() < reached + 5 and time.time() < began_s + MOST_S:
            time.sleep(0.05)
        ip("-n", self.name, "link", "set", f"{self.name}g", "up")
        self.cut_s = began_s, time.time()

    def _others(self) -> int:
        """Return the steps that the worlds of this room have done."""
        last = self.fleet.worlds - 1
        return max(seen.step for number, seen in self.history.worlds.items() if number != last)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip")
def test_a_world_that_was_cut_off_comes_back(tmp_path: Path) -> None:
    number = os.getpid() % 250
    Cut.name, Cut.host = f"cr{number}", f"10.77.{number}.1"
    job = job_for(tmp_path / "run", steps=500)
    prepared(job)
    with room(Cut.name, Cut.host, f"10.77.{number}.2"):
        cut = Cut(job, Fleet(worlds=3, silent_s=90.0))
        outcome = cut.run()
    assert outcome.reason == "finished", outcome
    found = audit(job.folder, worlds=3, islands=1)
    assert not found.problems, found.problems
    assert len(found.checksums) == 3, found.checksums
    assert len(set(found.checksums.values())) == 1, found.checksums
    began_s, ended_s = cut.cut_s
    without = found.without(2)
    assert without, "the world was never missed"
    first_s, last_s = without[0], without[-1]
    assert began_s < first_s < ended_s
    assert first_s - began_s <= 5.0 + 3.0, first_s - began_s  # a message waits three seconds
    assert last_s > ended_s - AWAY_S
