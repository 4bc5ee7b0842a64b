"""A fleet on one machine: its worlds run beside each other, and start again when they end."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from crore.errors import CroreError, InputError
from crore.plan.request import LostWorlds
from crore.train.fault.audit import audit
from crore.train.fault.chaos import DONE, Fault, ask_flip, faults
from crore.train.fault.follow import History, Log
from crore.train.fault.seat import island_of, seat_of
from crore.train.fault.worlds import OUTPUT, RESTART_S, Lighthouse, World, now_s
from crore.train.folder import JOB, LOG, writing
from crore.train.history import read_run
from crore.train.job import Job
from crore.train.listeners import Listeners
from crore.train.log import RunLog
from crore.train.outcome import LEFT_CODE, Outcome
from crore.train.records import End, EndReason, Event, EventKind, Record
from crore.train.screen import make_screen
from crore.train.signals import ASKING
from crore.train.tally import tally_of
from crore.train.text import labelled
from crore.units import three_digits

LOOK_S: Final = 0.05
STUCK_S: Final = 120.0
"""A world is ended that says nothing for so long, whatever the others do."""
STARTS: Final = 5
"""A world that ends so often in a row without a step is not started again."""
LEAVE_S: Final = 60.0
"""Worlds that are asked to leave, or that others finished without, get so long."""
SURVIVE: Final = 2
"""The clock of faults runs while so many worlds train."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fleet:
    """How a job's worlds run on one machine."""

    worlds: int
    """In all."""
    islands: int = 1
    spares: int = 0
    """Worlds beside them that take a seat at once when one is free."""
    lost: LostWorlds = "keep-batch"
    quorum: float = 0.9
    """Share of the islands that an outer step needs."""
    grace_s: float = 60.0
    """An outer step waits so long for islands that live and are late."""
    silent_s: float = 5.0
    """A world that the others go on without, and that says nothing for so long, is ended."""
    chaos: dict[str, float] = field(default_factory=dict)
    """Kind of fault -> mean seconds between two."""
    chaos_seed: int = 0
    chaos_s: float = 1e6
    """Faults stop so long after the first step."""


class Supervisor:
    """Starts a fleet's lighthouses and worlds, follows their logs, and ends them all."""

    def __init__(self, job: Job, fleet: Fleet) -> None:
        self.job, self.fleet = job, fleet
        self.history = History(islands=fleet.islands)
        self.asked: signal.Signals | None = None
        each = fleet.worlds // fleet.islands
        wanted = range(fleet.islands if each > 1 or fleet.spares else 0)
        self.lighthouses = [Lighthouse(least=1, grace_s=60.0) for _ in wanted]
        least = max(1, int(fleet.quorum * fleet.islands + 0.999))
        self.between = Lighthouse(least=least, grace_s=fleet.grace_s) if fleet.islands > 1 else None
        self.worlds: list[World] = []
        self._logs: dict[Path, Log] = {}
        self._faults: list[Fault] = []
        self._began_s = now_s()
        self._first_s: float | None = None
        self._since_s = self._looked_s = 0.0  # of the clock of faults
        self._failures: dict[int, int] = {}
        self._steps_at_start: dict[int, int] = {}
        self.listeners = Listeners()

    @property
    def houses(self) -> list[Lighthouse]:
        """All lighthouses: of the islands, then the one between them."""
        return [*self.lighthouses, *([self.between] if self.between else [])]

    def run(self) -> Outcome:
        """Run the fleet to its end and return how it ended."""
        with self._signals(), writing(self.job.folder):
            before = set(self.job.folder.glob("world-*/run-*.jsonl"))
            self._logs = {path: Log(path=path, read=path.stat().st_size) for path in before}
            self.listeners = Listeners(self._hearers())
            try:
                self._start()
                outcome = self._watch()
            finally:
                self._end_all()
                self.listeners.close()
        return outcome

    def _hearers(self) -> list[Any]:
        path, job = self.job.folder / LOG, self.job
        tally = tally_of(read_run(path).records) if path.exists() else None
        wrote = {str(path): "every step, evaluation, sample and event"}
        screen = make_screen(sys.stdout, quiet=job.quiet, tally=tally, wrote=wrote)
        return [RunLog(path), *screen]

    def _start(self) -> None:
        for house in self.houses:
            house.start()
        fleet, job = self.fleet, self.job.folder / JOB
        cores = (os.cpu_count() or 1) // (fleet.worlds * self.job.split.ranks)
        shared = replace(
            self.job, quiet=True, chaos="corrupt" in fleet.chaos,
            threads=self.job.threads or max(cores, 1),
        )  # fmt: skip
        job.write_bytes(pickle.dumps(shared))
        for number in range(fleet.worlds + fleet.spares):
            self.worlds.append(self._world(number))
        for world in self.worlds:
            world.start(job)
        self._faults = faults(fleet.chaos, fleet.chaos_seed, fleet.chaos_s)

    def _world(self, number: int) -> World:
        fleet, between = self.fleet, self.between
        island = island_of(number, fleet.worlds, fleet.islands)
        seat = seat_of(
            number, worlds=fleet.worlds, islands=fleet.islands,
            lighthouse=self.lighthouses[island].address if self.lighthouses else "",
            fleet=between.address if between else "", lost=fleet.lost,
        )  # fmt: skip
        return World(seat=seat, folder=self.job.folder)

    def _watch(self) -> Outcome:
        """Look after the fleet until all worlds have ended for good."""
        asked_s = done_s = 0.0
        while True:
            self._follow()
            if self.asked is not None and not asked_s:
                asked_s = now_s()
                for world in self.worlds:
                    world.well()
                    world.ask()
            if asked_s and now_s() - asked_s > LEAVE_S:
                break
            done_s = done_s or (now_s() if self._done() else 0.0)
            if done_s and now_s() - done_s > LEAVE_S:  # who is late has nobody to join any more
                break
            ended = [self._ended(world) for world in self.worlds]
            if all(ended):
                break
            if self.asked is None:
                self._do_faults()
                self._end_silent()
            self._keep_lighthouses()
            time.sleep(LOOK_S)
        self._follow()
        return self._outcome()

    def _follow(self) -> None:
        """Pass on what the worlds' logs have to say."""
        for world in self.worlds:
            for path in sorted((self.job.folder / world.seat.name).glob("run-*.jsonl")):
                log = self._logs.setdefault(path, Log(path=path))
                for record in log.news():
                    for told in self.history.hear(world.seat.world, record, now_s()):
                        self._tell(told)

    def _tell(self, record: Record) -> None:
        if isinstance(record, End):
            return
        if self._first_s is None and record.kind == "step":
            self._first_s = now_s()
        getattr(self.listeners, record.kind)(record)

    def _event(self, what: EventKind, message: str) -> None:
        self.listeners.event(Event(step=self.history.step, what=what, message=message))

    def _ended(self, world: World) -> bool:
        """Return whether a world has ended for good; start it again if not."""
        code = world.code
        if code is None:
            world.ended_s = 0.0
            return False
        if code in (0, 2) or self.asked is not None:
            return True
        number = world.seat.world
        seen = self.history.worlds.get(number)
        if not world.ended_s:
            world.ended_s = now_s()
            world.well()
            stepped = self._stepped(world)
            self._failures[number] = 0 if stepped else self._failures.get(number, 0) + 1
            if self._failures[number] <= STARTS:
                self._event("lost world", f"world {number} {_how(code)}: it starts again")
            else:
                self._event("lost world", f"world {number} {_how(code)} once more, without a step")
        if self._failures[number] > STARTS or self._done():
            return True
        if now_s() - world.ended_s > RESTART_S:
            self._steps_at_start[number] = seen.step if seen else 0
            if seen is not None:
                seen.end = None  # of the start before: it must not be taken for one that leaves
            world.start(self.job.folder / JOB)
            world.ended_s = 0.0
        return False

    def _done(self) -> bool:
        return any(seen.end and seen.end.reason == "finished" for seen in
                   self.history.worlds.values())  # fmt: skip

    def _do_faults(self) -> None:
        """Do what the schedule says by now."""
        if self._first_s is None or self._done():
            return
        passed_s, self._looked_s = now_s() - (self._looked_s or now_s()), now_s()
        if sum(map(self._lives, self.worlds)) < SURVIVE:
            return  # the clock of faults stands still: somebody is to live through them
        self._since_s += passed_s
        if self._faults and self._faults[0].at_s <= self._since_s:
            fault = self._faults.pop(0)
            if fault.kind == "lighthouse":
                self._event("chaos", "the lighthouse is killed")
                self.houses[int(fault.draw * len(self.houses))].kill()
            else:
                there = [world for world in self.worlds if self._lives(world)]
                self.do(there[int(fault.draw * len(there))], fault.kind)

    def _stepped(self, world: World) -> bool:
        """Return whether a world took a step since it was started last."""
        number = world.seat.world
        seen = self.history.worlds.get(number)
        return seen is not None and seen.step > self._steps_at_start.get(number, 0)

    def _trains(self, world: World) -> bool:
        return world.code is None and self._stepped(world)

    def _lives(self, world: World) -> bool:
        """Return whether a world trains as well as it can."""
        return self._trains(world) and world.slowed is None and not world.stopped

    def do(self, world: World, kind: str) -> None:
        """Do one fault to a world, and say so."""
        self._event("chaos", f"world {world.seat.world} {DONE[kind]}")
        if kind == "kill":
            world.kill()
        elif kind == "hang":
            world.stop()
        elif kind == "slow":
            world.slow()
        else:
            ask_flip(self.job.folder / world.seat.name)

    def _end_silent(self) -> None:
        """End a world that stands still while others have gone on without it."""
        for world in self.worlds:
            seen = self.history.worlds.get(world.seat.world)
            if world.code is not None or seen is None:
                continue
            if seen.end is not None and seen.end.reason == "left":
                world.kill()  # it said so, and may be too slow to end
                continue
            if not self._trains(world):
                continue
            silent_s = now_s() - seen.since_s
            without = any(
                other.step > seen.step and world.seat.world not in other.worlds
                and other.worlds and seen.step for number, other in self.history.worlds.items()
                if number != world.seat.world and self._same_island(world, number)
            )  # fmt: skip
            gone = without or (world.frozen and world.slowed is None)
            if silent_s > (self.fleet.silent_s if gone else STUCK_S):
                self._event("lost world", f"world {world.seat.world} says nothing for "
                            f"{silent_s:.0f} s: it is ended")  # fmt: skip
                world.kill()

    def _same_island(self, world: World, number: int) -> bool:
        return self.worlds[number].seat.island == world.seat.island  # in the order of numbers

    def _keep_lighthouses(self) -> None:
        for house in self.houses:
            if house.alive or now_s() < house.again_s:
                continue
            try:
                house.start()
            except InputError as error:  # while it was out, the system gave its port to another
                if not house.again_s:
                    self._event("note", f"{error}: trying again")
                house.again_s = now_s() + RESTART_S
            else:
                house.again_s = 0.0
                self._event("note", "the lighthouse is lit again")

    def _outcome(self) -> Outcome:
        """Tell the end, as the world that got furthest tells it."""
        ends = [seen.end for seen in self.history.worlds.values() if seen.end is not None]
        best = max(ends, key=lambda end: (end.reason == "finished", end.step), default=None)
        if best is None:
            return Outcome(reason="failed", message=self._why(), exit_code=1)
        # Its own seconds are those of its last start.
        best = replace(best, wall_s=now_s() - self._began_s)
        self.listeners.end(best)
        if not self.job.quiet:
            print(self._survived())
        if self.asked is not None and best.reason != "finished":
            return Outcome.asked(self.asked)
        reason: EndReason = best.reason
        return Outcome(reason=reason, message=best.message, exit_code=int(reason != "finished"))

    def _survived(self) -> str:
        """Return in a line what the fleet lived through."""
        found = audit(self.job.folder, worlds=self.fleet.worlds, islands=self.fleet.islands)
        same = len(set(found.checksums.values())) == 1
        went_on = f"; the others went on after {three_digits(found.went_on_s())} s (median)"
        said = [f"{len(found.hits)} faults{went_on}" if found.hits else "no fault"]
        lost = found.handed_out - found.merged
        if lost:
            made = "made up for" if self.fleet.lost == "keep-batch" else "left out"
            said.append(f"{lost:,} samples that went with islands {made}")
        weights = "all weights are equal" if same else "THE WEIGHTS DIFFER"
        return labelled("survived", "; ".join((*said, weights, *found.problems)))

    def _why(self) -> str:
        """Return the last words of a world."""
        for world in self.worlds:
            path = self.job.folder / world.seat.name / OUTPUT
            with contextlib.suppress(OSError):
                lines = [line for line in path.read_text(errors="replace").splitlines() if line]
                if lines:
                    return lines[-1].removeprefix("crore: ")[-300:]
        return "no world took a step"

    def _end_all(self) -> None:
        for world in self.worlds:
            world.kill()
        for house in self.houses:
            house.kill()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._ask) for number in ASKING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number)


def _how(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return "left to make room" if code == LEFT_CODE else f"ended with {code}"


def run_fleet(job: Job, fleet: Fleet) -> Outcome:
    """Run a fleet on this machine; what a user did wrong is an outcome."""
    try:
        return Supervisor(job, fleet).run()
    except CroreError as error:
        return Outcome(reason="failed", message=str(error), exit_code=error.exit_code)
