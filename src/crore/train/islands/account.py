"""Which samples are in the weights that all islands share: how many of those that were handed out.

All islands are handed samples by one count, each its own part of every batch. What an island
trained is in the shared weights when a round has counted it. What went with one that was away, or
that was left out of a round, is lost; the next free samples make up for it. The account is part of
the outer state: all members of a round book the same, and who takes up the state takes it up too.
F: fragments.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any


class Account:
    """The samples behind each fragment, and where each island was last in the history of turns."""

    def __init__(self, fragments: int) -> None:
        self._until = [0] * fragments
        self._lost = [0] * fragments
        self.mark = 0
        """Of the history of turns so far: islands that went on apart have others."""
        self.before = 0
        """The mark before the last turn."""
        self._met: dict[int, int] = {}
        """Island -> mark of the last turn that it was in."""

    def book(self, fragment: int, until: int, samples: int) -> float:
        """Book a round: of what was handed out `until` a sample, so many more are in a fragment.

        Returns their share of what was handed out since the last round, 1 at most: where an island
        was late they are more, and were lost before.
        """
        until = max(until, self._until[fragment])
        handed_out = until - self._until[fragment]
        self._lost[fragment] += handed_out - samples
        self._until[fragment] = until
        return min(samples / handed_out, 1.0) if handed_out else 1.0

    def until(self, fragment: int) -> int:
        """Return the sample after the last one handed out before a fragment's last round."""
        return self._until[fragment]

    @property
    def lost(self) -> int:
        """Samples handed out before the last round that are not in the weights.

        One that is in some fragments alone counts in part.
        """
        return sum(self._lost) // len(self._lost)

    def meet(self, islands: Sequence[int], tokens: Sequence[float], *, meeting: int) -> None:
        """Keep who was in a turn, with how many tokens, and the meeting's number; after `book`.

        A turn that brings nothing makes no other history.
        """
        if any(tokens):
            what = repr((self.mark, self._until, tuple(islands), tuple(tokens), meeting))
            self.before, self.mark = self.mark, zlib.crc32(what.encode())
        self._met |= dict.fromkeys(islands, self.mark)

    def is_new(self, island: int, own: Account) -> bool:
        """Return whether what an island has trained, by its `own` account, is not in the weights.

        It is new if the last turn that it knows is the last one that it was in. A process that died
        before it knew of one, or that came back from an older checkpoint, would bring twice what is
        in the weights already.
        """
        return self._met.get(island, 0) == own.mark

    def up_to_date(self) -> int:
        """Return how many islands were in the last turn, or have taken up its state."""
        return sum(mark == self.mark for mark in self._met.values())

    def facts(self) -> dict[str, Any]:
        """Return the account as JSON takes it."""
        return {
            "until": list(self._until), "lost": list(self._lost),
            "mark": self.mark, "before": self.before, "met": sorted(self._met.items()),
        }  # fmt: skip

    def load_facts(self, facts: Mapping[str, Any]) -> None:
        """Take up what `facts` returned."""
        self._until = [int(each) for each in facts["until"]]
        self._lost = [int(each) for each in facts["lost"]]
        self.mark, self.before = int(facts["mark"]), int(facts["before"])
        self._met = {int(island): int(mark) for island, mark in facts["met"]}
