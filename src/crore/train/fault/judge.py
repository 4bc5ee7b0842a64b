"""What the worlds of an island hold against each other: another checksum, another speed."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SLOW: Final = 4.0
"""A world this many times slower than the median of the others, in the mean of the last steps, is
slow: it leaves, for a machine that is well."""
SLOW_STEPS: Final = 20
"""So many last steps count; one that was not taken yet counts as usual. A world ten times slower
leaves after seven, one that is stopped now and then after a few such steps more."""
MOST: Final = 20.0
"""No step counts as so many times slower or more: a hiccup, however long, is no slowness."""
LEAST_S: Final = 0.25
"""Less than this lost in those steps together is no slowness."""


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
        self._took: defaultdict[int, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=SLOW_STEPS)
        )
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
        took_s, usual_s = (sum(times) for times in zip(*self._took.pop(slow), strict=True))
        reason = f"world {slow} is {took_s / usual_s:.0f} times slower: it leaves"
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
        """Return the first world that has been slow for long enough."""
        held = {world: took for world, took in zip(worlds, busy_s, strict=True) if took > 0}
        for world, took in held.items():
            usual = _others(held, world)
            if usual > 0:
                self._took[world].append((took, usual))
        return next((world for world in held if _slow(self._took[world])), None)


def _slow(times: Sequence[tuple[float, float]]) -> bool:
    """Return whether the seconds of the last steps, own and usual ones, are those of a slow one."""
    over = sum(min(took / usual, MOST) - 1 for took, usual in times)
    lost_s = sum(took - usual for took, usual in times)
    return over > (SLOW - 1) * SLOW_STEPS and lost_s > LEAST_S


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
