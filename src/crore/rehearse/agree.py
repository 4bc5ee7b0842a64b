"""Whether ranks agree: each send met by its receive, each group at one operation at a time.

The ranks' lists are carried out side by side as a cluster would: a collective goes on when all its
members are at it, a receive when its send was issued; sends do not wait. Where nothing can go on,
or two sides of one operation differ, that is the hang or the wrong result a cluster would have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crore.rehearse.messages import P2P, Message

Members = tuple[int, ...]
MOST_WORDS = 3
"""Ranks that a finding lists one by one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankList:
    """What one rank issues in a step."""

    rank: int
    messages: Sequence[Message]
    groups: Mapping[str, Members]
    """Ranks of each process group by its name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that would hang, or go wrong, on a cluster."""

    kind: str
    """`hang` or `mismatch`."""
    ranks: tuple[int, ...]
    """In their world."""
    text: str


def disagreements(lists: Sequence[RankList]) -> list[Finding]:
    """Return what goes wrong when these ranks run; the others are taken to follow them.

    The first thing found ends the run, as it would on a cluster.
    """
    return _Run(lists).to_the_end()


class _Run:
    """The ranks, each at its next operation."""

    def __init__(self, lists: Sequence[RankList]) -> None:
        self.lists = {it.rank: it for it in lists}
        self.at = dict.fromkeys(self.lists, 0)
        self.issued = dict.fromkeys(self.lists, -1)
        self.sent: dict[tuple[int, int], list[Message]] = defaultdict(list)
        self.taken: dict[tuple[int, int], int] = defaultdict(int)
        self.found: list[Finding] = []

    def to_the_end(self) -> list[Finding]:
        moving = True
        while moving and not self.found:
            moving = sum(self._advance(rank) for rank in self.lists) > 0
        if not self.found:
            self._stuck()
        if not self.found:
            self._unreceived()
        return self.found

    def _next(self, rank: int) -> Message | None:
        messages, at = self.lists[rank].messages, self.at[rank]
        return messages[at] if at < len(messages) else None

    def _advance(self, rank: int) -> bool:
        """Move a rank as far as it goes alone, or a group by one; return whether anything moved."""
        moved = False
        while (message := self._next(rank)) is not None and not self.found:
            if message.collective not in P2P:
                return self._meet(rank, message) or moved
            done = self._transfer(rank)
            if not done:
                return moved
            moved = True
        return moved

    def _transfer(self, rank: int) -> bool:
        """Issue a batch of sends and receives, and go on when all of it has arrived."""
        batch = self._batch(rank)
        if self.issued[rank] < self.at[rank]:
            self.issued[rank] = self.at[rank]
            for message in batch:
                if message.collective == "send":
                    self.sent[rank, message.peer].append(message)
        receives = [m for m in batch if m.collective == "recv" and m.peer in self.lists]
        wanted = Counter((m.peer, rank) for m in receives)
        if any(len(self.sent[c]) - self.taken[c] < count for c, count in wanted.items()):
            return False
        for message in receives:
            self._receive(rank, message)
        self.at[rank] += len(batch)
        return True

    def _batch(self, rank: int) -> list[Message]:
        messages, start = self.lists[rank].messages, self.at[rank]
        end = start
        while end < len(messages) and messages[end].batch == messages[start].batch:
            if messages[end].collective not in P2P:
                break
            end += 1
        return list(messages[start:end])

    def _receive(self, rank: int, message: Message) -> None:
        channel = (message.peer, rank)
        sent = self.sent[channel][self.taken[channel]]
        self.taken[channel] += 1
        if sent.bytes != message.bytes:
            self._say(
                "mismatch", (message.peer, rank),
                f"rank {message.peer} sends {sent.words}, rank {rank} takes {message.words}",
            )  # fmt: skip

    def _meet(self, rank: int, message: Message) -> bool:
        """Let a group go on when all its members here are at the same operation."""
        members = self._members(rank, message)
        there = {other: self._next(other) for other in members}
        for other, its in there.items():
            if its is None or self._members(other, its) != members:
                return False
            if (its.collective, its.bytes) != (message.collective, message.bytes):
                self._say(
                    "mismatch", (rank, other),
                    f"rank {rank} is at {message.words}, rank {other} of the same group at "
                    f"{its.words}",
                )  # fmt: skip
                return False
        for other in there:
            self.at[other] += 1
        return True

    def _members(self, rank: int, message: Message) -> Members:
        """Return the members of a message's group that are among the ranks at hand."""
        if message.collective in P2P:
            return ()
        group = self.lists[rank].groups.get(message.group, (rank,))
        return tuple(r for r in group if r in self.lists)

    def _stuck(self) -> None:
        waiting = {rank: m for rank in self.lists if (m := self._next(rank)) is not None}
        if not waiting:
            return
        texts = [self._wait(rank, message) for rank, message in waiting.items()]
        more = f"; and {len(texts) - MOST_WORDS} more" if len(texts) > MOST_WORDS else ""
        self._say("hang", tuple(waiting), "; ".join(texts[:MOST_WORDS]) + more)

    def _wait(self, rank: int, message: Message) -> str:
        step = f"rank {rank} waits at its operation {self.at[rank] + 1} ({message.words})"
        if message.collective in P2P:
            wanted = next((m for m in self._batch(rank) if m.collective == "recv"), message)
            return f"rank {rank} waits at its operation {self.at[rank] + 1} ({wanted.words})"
        others = [r for r in self._members(rank, message) if r != rank]
        missing = [r for r in others if not self._is_at(r, rank, message)]
        return f"{step} for rank {', '.join(map(str, missing[:MOST_WORDS]))}"

    def _is_at(self, other: int, rank: int, message: Message) -> bool:
        its = self._next(other)
        return its is not None and self._members(other, its) == self._members(rank, message)

    def _unreceived(self) -> None:
        for (sender, receiver), sent in self.sent.items():
            left = sent[self.taken[sender, receiver] :]
            if receiver in self.lists and left and not self.found:
                self._say(
                    "hang", (sender, receiver),
                    f"rank {sender} does {left[0].words}, which rank {receiver} never receives",
                )  # fmt: skip

    def _say(self, kind: str, ranks: tuple[int, ...], text: str) -> None:
        self.found.append(Finding(kind=kind, ranks=ranks, text=text))
