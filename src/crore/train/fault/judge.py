"""What the worlds of an island hold against each other: another checksum, another speed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SLOW: Final = 4.0
"""A world this many times slower than the median of the others is slow..."""
SLOW_STEPS: Final = 5
"""...and leaves after so many such steps in a row, for a machine that is well."""
LEAST_S: Final = 0.05
"""Differences below this are no slowness."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """What follows from a step's numbers, for this world."""

    reason: str = ""
    again: bool = False
    """The step does not hold: somebody's weights differ."""
    heal: bool = False
    """They are this world's: it takes up another's state."""
    leave: bool = False
    """This world is slow, or was wrong twice: it makes room."""
    torn: bool = False
    """No majority says whose weights are right."""


class Judge:
    """One world's memory of what was said; every world judges the same numbers."""

    def __init__(self, world: int) -> None:
        self._world = world
        self._slow: Counter[int] = Counter()
        self._wrong = 0

    def hear(
        self, worlds: Sequence[int], checksums: Sequence[int], busy_s: Sequence[float]
    ) -> Opinion:
        """Judge one step: numbers of the worlds, of their weights, seconds of their own work."""
        odd = minority(worlds, checksums)
        if odd:
            return self._of_odd(odd, len(worlds))
        slow = self._late(worlds, busy_s)
        if slow is None:
            return Opinion()
        held = dict(zip(worlds, busy_s, strict=True))
        reason = f"world {slow} is {held[slow] / _others(held, slow):.0f} times slower: it leaves"
        return Opinion(reason=reason, leave=slow == self._world)

    def _of_odd(self, odd: tuple[int, ...], size: int) -> Opinion:
        named = ", ".join(map(str, odd))
        reason = f"the weights of world {named} differ from the others': it takes theirs"
        if len(odd) == size:
            reason = "the weights differ and no majority says whose are right"
            return Opinion(reason=reason, again=True, torn=True)
        mine = self._world in odd
        self._wrong += mine
        return Opinion(reason=reason, again=True, heal=mine, leave=mine and self._wrong > 1)

    def _late(self, worlds: Sequence[int], busy_s: Sequence[float]) -> int | None:
        """Return the world that has been slow for long enough."""
        held = {world: took for world, took in zip(worlds, busy_s, strict=True) if took > 0}
        for world, took in held.items():
            usual = _others(held, world)
            late = usual > 0 and took > SLOW * usual and took - usual > LEAST_S
            self._slow[world] = self._slow[world] + 1 if late else 0
        found = [world for world in held if self._slow[world] >= SLOW_STEPS]
        if found:
            self._slow[found[0]] = 0
        return found[0] if found else None


def _others(held: dict[int, float], world: int) -> float:
    rest = [took for other, took in held.items() if other != world]
    return statistics.median(rest) if rest else 0.0


def minority(worlds: Sequence[int], checksums: Sequence[int]) -> tuple[int, ...]:
    """Return the worlds whose checksum is not the most frequent one; all of them in a tie."""
    if len(set(checksums)) <= 1:
        return ()
    counts = Counter(checksums).most_common()
    if counts[0][1] == counts[1][1]:
        return tuple(worlds)
    return tuple(w for w, one in zip(worlds, checksums, strict=True) if one != counts[0][0])
