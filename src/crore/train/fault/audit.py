"""What the logs of a fleet show of its faults: how soon the others went on, and what was lost."""

from __future__ import annotations

import datetime as dt
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crore.train.fault.chaos import DONE
from crore.train.fault.follow import Log
from crore.train.fault.merged import merged
from crore.train.fault.seat import seat_of
from crore.train.fault.shares import share_of
from crore.train.folder import LOG
from crore.train.records import End, Event, Record, Start, Step

_FAULT = re.compile(rf"world (\d+) ({'|'.join(DONE.values())})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One fault of a world, and what came of it."""

    world: int
    how: str
    went_on_s: float | None
    """Until another world logged its next step; None where no other did."""
    back_s: float | None
    """Until the world itself logged a step again."""
    back_behind: int | None
    """Steps that it was behind the others then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What a fleet's logs say."""

    hits: tuple[Hit, ...]
    problems: tuple[str, ...]
    """Samples lost or used twice, steps that differ between worlds; empty where all is well."""
    checksums: Mapping[int, int]
    """World -> of its weights at the last step."""
    steps: int
    missed: Mapping[int, tuple[float, ...]]
    """World -> Unix seconds of steps that others took without it."""
    merged: int
    """Samples that are in the weights at the end."""
    handed_out: int
    """Samples up to the last one that some step was to take: what is not merged was lost."""

    def without(self, world: int) -> tuple[float, ...]:
        """Return when steps were taken without a world, in order."""
        return self.missed.get(world, ())

    def went_on_s(self) -> float:
        """Return the median time until the others went on; 0 without a fault."""
        times = [hit.went_on_s for hit in self.hits if hit.went_on_s is not None]
        return statistics.median(times) if times else 0.0


def audit(folder: Path, *, worlds: int, islands: int) -> Audit:
    """Read the logs of a fleet of `worlds` in all; records of every start of every world count."""
    logs = {number: list(_records(folder, number)) for number in _numbers(folder)}
    told = list(Log(path=folder / LOG).news())
    steps = {
        number: [record for record in records if isinstance(record, Step)]
        for number, records in logs.items()
    }
    ends = {
        number: [r for r in records if isinstance(r, End) and r.reason == "finished"]
        for number, records in logs.items()
    }
    every = [step for each in steps.values() for step in each]
    last = max((step.step for step in every), default=0)
    counts = merged(logs, worlds=worlds, islands=islands) if islands > 1 else _ran(every)
    return Audit(
        hits=tuple(_hits(told, logs, steps)),
        problems=(*_problems(logs, worlds, islands), *_twice(counts)), steps=last,
        missed={number: tuple(sorted(_missed(number, steps))) for number in logs},
        merged=int((counts > 0).sum()),
        handed_out=max((s.first_sample + s.samples for s in every), default=0),
        checksums={n: e[-1].checksum for n, e in ends.items() if e and e[-1].checksum is not None},
    )  # fmt: skip


def _ran(steps: Sequence[Step]) -> NDArray[np.int64]:
    """Return 1 for each sample of one island's steps; `_problems` says how often.

    A step that one world tells is that of all that it names, who may not have lived to tell it.
    """
    ran = np.zeros(max((step.first_sample + step.samples for step in steps), default=0), np.int64)
    for step in steps:
        ran[step.first_sample : step.first_sample + step.samples] = 1
    return ran


def _twice(counts: NDArray[np.int64]) -> Iterator[str]:
    twice = np.flatnonzero(counts > 1)
    if len(twice):
        yield f"{len(twice)} samples are in the weights twice, {twice[0]} first"


def _missed(world: int, steps: Mapping[int, Sequence[Step]]) -> Iterator[float]:
    first_s = min((_time_s(step) for step in steps[world]), default=0.0)
    for number, each in steps.items():
        for step in each if number != world else ():
            if step.worlds is not None and world not in step.worlds and _time_s(step) > first_s:
                yield _time_s(step)


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("world-")) for path in folder.glob("world-*"))


def _records(folder: Path, world: int) -> Iterator[Record]:
    logs = sorted(
        (folder / f"world-{world:05d}").glob("run-*.jsonl"),
        key=lambda path: int(path.stem.removeprefix("run-")),
    )
    for path in logs:
        yield from Log(path=path).news()


def _time_s(record: Record) -> float:
    return dt.datetime.fromisoformat(record.time).timestamp()


def _hits(
    told: Sequence[Record], logs: Mapping[int, Sequence[Record]],
    steps: Mapping[int, Sequence[Step]],
) -> Iterator[Hit]:  # fmt: skip
    for record in told:
        found = _FAULT.match(record.message) if isinstance(record, Event) else None
        if found is None:
            continue
        world, at_s = int(found[1]), _time_s(record)
        after = [
            _time_s(step) for number, each in steps.items() if number != world
            for step in each if _time_s(step) > at_s
        ]  # fmt: skip
        own = next((s for s in steps.get(world, ()) if _time_s(s) > at_s + 0.5), None)
        behind = None
        if own is not None:
            others = [_done(each, _time_s(own)) for number, each in logs.items() if number != world]
            behind = max(max(others, default=0) - own.step, 0)
        yield Hit(
            world=world, how=found[2], went_on_s=min(after) - at_s if after else None,
            back_s=_time_s(own) - at_s if own is not None else None, back_behind=behind,
        )  # fmt: skip


def _done(records: Sequence[Record], until_s: float) -> int:
    """Return the steps that a world had done by a time, and not taken back."""
    done = 0
    for record in records:
        goes_back = isinstance(record, Event) and record.what == "roll back"
        if (goes_back or isinstance(record, Step)) and _time_s(record) <= until_s:
            done = record.step
    return done


@dataclass(kw_only=True, slots=True)
class _Told:
    """A record of a world, and which start or roll back of the world it came after."""

    at_s: float
    world: int
    start: int
    step: Step


def _problems(logs: Mapping[int, Sequence[Record]], worlds: int, islands: int) -> Iterator[str]:
    """Yield what is wrong with the samples: each step's are shared out once, and none between.

    An island whose worlds have all died goes back to its checkpoint: what came after it is undone.
    """
    by_island: dict[int, list[_Told]] = defaultdict(list)
    for number, records in logs.items():
        seat = seat_of(number, worlds=worlds, islands=islands, lighthouse="h:1", fleet="h:1")
        start, unit, equal = 0, 1, False
        for record in records:
            if isinstance(record, Start):
                start += 1
                axes = {k: int(v) for k, v in record.layout.items() if isinstance(v, int)}
                equal = axes["pp"] > 1
                unit = axes["dp_replicate"] * axes["dp_shard"] * axes["micro_batch"] * axes["pp"]
            elif isinstance(record, Event) and record.what == "roll back":
                start += 1  # what it took before is undone as if it had started again
            elif isinstance(record, Step):
                there = record.worlds or (number,)
                share = share_of(
                    seat, there.index(number), len(there), record.first_sample, record.samples,
                    unit, equal=equal,
                )  # fmt: skip
                if record.own_samples != (share.first, share.first + share.samples):
                    yield f"world {number} ran {record.own_samples} at step {record.step}"
                by_island[seat.island].append(
                    _Told(at_s=_time_s(record), world=number, start=start, step=record)
                )
    for island, told in sorted(by_island.items()):
        yield from _of_island(island, sorted(told, key=lambda one: one.at_s), islands)


def _of_island(island: int, told: Sequence[_Told], islands: int) -> Iterator[str]:
    """Yield where an island's steps, in the order of time, are not one history."""
    last = {(one.world, one.start): one.at_s for one in told}
    history: dict[int, _Told] = {}
    for one in told:
        step = one.step.step
        before = history.get(step)
        if before is not None and _way(before) != _way(one):
            undone = [old for number, old in history.items() if number >= step]
            alive = [o.world for o in undone if last[o.world, o.start] > one.at_s]
            if alive:
                yield f"step {step} of island {island} was taken twice, by {alive[0]} and others"
            for number in [number for number in history if number >= step]:
                del history[number]
        earlier = history.get(step - 1)
        if earlier is not None and islands == 1:
            ends = earlier.step.first_sample + earlier.step.samples
            first = one.step.first_sample
            if first != ends:
                yield f"step {step} of island {island} begins at {first}, not at {ends}"
        history[step] = one


def _way(told: _Told) -> tuple[int, int, tuple[int, ...]]:
    return told.step.first_sample, told.step.samples, told.step.worlds or ()
