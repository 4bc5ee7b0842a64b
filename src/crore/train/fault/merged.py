"""Which samples are in the weights that islands share at the end, by the logs of their worlds.

What an island ran since its last turn is in the weights once a turn has heard it, whether or not it
lived to log that; what it ran and then lost, by dying, rolling back, being left out, or taking up
the others' state, is not. With fragments a sample counts from its first turn; what is trained while
a turn is under way counts with it.

A turn is undone when those who know of it die and the others take it anew: each turn names the one
before it, and only those that lead to the last one count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crore.train.fault.seat import island_of
from crore.train.records import Event, Record, Start, Step

_TURN: Final = re.compile(
    r"turn [\d,]+, (?P<mark>\w+) after (?P<before>\w+): fragment \d+ of islands (?P<heard>[\w, ]+);"
)
"""As an outer step is told: its mark and that of the one before, and whose progress it added up."""


class _Island:
    """What one island has run since a turn heard it last."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._since: dict[int, dict[int, tuple[int, int]]] = {}
        self.brought: list[tuple[int, int]] = []

    def hear(self, world: int, record: Record) -> None:
        """Hear the next record, in the order of time, of one of its worlds."""
        match record:
            case Step(own_samples=(first, end)):
                if world in self._since.get(record.step, {}):  # taken anew
                    self._drop(record.step - 1)
                self._since.setdefault(record.step, {})[world] = first, end
            case Start() if self._alone:
                self._drop(record.step)
            case Event(what="roll back"):
                self._drop(record.step)
            case Event(what="fenced"):
                self._since.clear()
            case Event(what="joined") if "the others have what it trained" in record.message:
                self._since.clear()

    def bring(self) -> None:
        """Have a turn hear what it ran."""
        self.brought += [own for each in self._since.values() for own in each.values()]
        self._since.clear()

    def _drop(self, step: int) -> None:
        self._since = {number: own for number, own in self._since.items() if number <= step}


def merged(
    logs: Mapping[int, Sequence[Record]], *, worlds: int, islands: int
) -> NDArray[np.int64]:  # fmt: skip
    """Return how often each sample that was handed out is in the shared weights, by its index."""
    found = [_Island(alone=worlds == islands) for _ in range(islands)]
    every = [(record, world, _turn(record)) for world, each in logs.items() for record in each]
    told = sorted(every, key=lambda it: (it[0].time, isinstance(it[0], Event)))
    left = _lasting([turn for _, _, turn in told if turn])
    for record, world, turn in told:
        found[island_of(world, worlds, islands)].hear(world, record)
        if turn and turn["mark"] in left:  # the first to tell it: who was in it has not gone on yet
            left.remove(turn["mark"])
            for island in turn["heard"].split(", "):
                if island != "none":
                    found[int(island)].bring()
    return _counts(own for island in found for own in island.brought)


def _turn(record: Record) -> re.Match[str] | None:
    """Return what a record tells of a turn; None where it tells of something else."""
    if isinstance(record, Event) and record.what == "outer step":
        return _TURN.match(record.message)
    return None


def _lasting(turns: Sequence[re.Match[str]]) -> set[str]:
    """Return the marks of the turns, given in the order of time, that lead to the last one."""
    before = {turn["mark"]: turn["before"] for turn in turns}
    mark, found = turns[-1]["mark"] if turns else "", set[str]()
    while mark in before and mark not in found:
        found.add(mark)
        mark = before[mark]
    return found


def _counts(ranges: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    taken = list(ranges)
    counts = np.zeros(max((end for _, end in taken), default=0), np.int64)
    for first, end in taken:
        counts[first:end] += 1
    return counts
