"""The account of samples is right whoever dies, is late, or is left out, and whenever."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crore.train.islands.account import Account

OWN = 2
"""Samples of one island in a step."""


@dataclass
class Island:
    """One island, which knows every sample in the shared weights and in its own beyond them."""

    number: int
    account: Account = field(default_factory=lambda: Account(1))
    turns: int = 0
    next: int = 0
    """First sample of the next step of all islands."""
    shared: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    saved: dict[str, Any] = field(default_factory=dict)

    def train(self, steps: int, islands: int) -> None:
        for _ in range(steps):
            first = self.next + self.number * OWN
            self.new += tuple(range(first, first + OWN))
            self.next += islands * OWN

    def save(self) -> None:
        state = {key: getattr(self, key) for key in ("turns", "next", "shared", "new")}
        self.saved = {**state, "facts": json.dumps(self.account.facts())}

    def restart(self) -> None:
        """Go on from the checkpoint, in another process."""
        for key in ("turns", "next", "shared", "new"):
            setattr(self, key, self.saved[key])
        self.account.load_facts(json.loads(self.saved["facts"]))

    def take_up(self, other: Island) -> None:
        """Take up another's outer state; keep what is new to it."""
        if not other.account.is_new(self.number, self.account):
            self.new = ()
        self.turns, self.shared = other.turns, other.shared
        self.account.load_facts(other.account.facts())


def take_turn(there: list[Island], fenced: list[Island]) -> None:
    """Have islands meet, those that are behind or astray take up the first's of the furthest."""
    furthest = max(it.turns for it in there)
    first = next(it for it in there if it.turns == furthest)
    for island in there:
        if (island.turns, island.account.mark) != (furthest, first.account.mark):
            island.take_up(first)
    said = [it.number for it in there], [float(len(it.new)) for it in there]
    until = max((it.next for it in there if it.new), default=0)
    brought = [sample for it in there if it not in fenced for sample in it.new]
    for it in there:
        it.turns, it.new, it.shared = it.turns + 1, (), (*it.shared, *brought)
        it.account.book(0, until, len(brought))
        it.account.meet(*said, meeting=1)
        it.next = it.account.until(0)


@given(
    count=st.integers(2, 4),
    rounds=st.lists(
        st.tuples(st.integers(1, 3), st.lists(st.sampled_from("tttasdlf"), min_size=4, max_size=4)),
        max_size=30,
    ),
)  # fmt: skip
def test_the_shared_weights_hold_what_the_account_says_and_nothing_twice(count, rounds):
    """In a round an island trains, is away, saves before, dies before, comes late, or is fenced."""
    islands = [Island(k) for k in range(count)]
    for island in islands:
        island.save()
    for steps, everyone in rounds:
        does = dict(zip(range(count), everyone, strict=False))
        for island in islands:
            what = does[island.number]
            if what == "s":
                island.save()
            if what == "d":
                island.restart()
            if what != "a":
                island.train(steps, count)
        there = [it for it in islands if does[it.number] not in "al"]
        if not there:
            continue
        take_turn(there, [it for it in there if does[it.number] == "f"])
        for it in there:
            assert it.account.facts() == there[0].account.facts()
            assert len(it.shared) == len(set(it.shared))
            assert it.account.until(0) - it.account.lost == len(it.shared)


@given(
    fragments=st.integers(1, 5), islands=st.integers(1, 4), turns=st.integers(0, 40),
)  # fmt: skip
def test_nothing_is_lost_while_all_are_there(fragments, islands, turns):
    account = Account(fragments)
    sent = [0] * fragments
    for turn in range(turns):
        fragment, until = turn % fragments, (turn + 1) * islands * OWN
        account.book(fragment, until, until - sent[fragment])
        sent[fragment] = until
        assert account.lost == 0


def test_a_sample_that_is_in_some_fragments_alone_counts_in_part():
    account = Account(4)
    account.book(0, 100, 60)
    assert account.lost == 10
    account.book(1, 100, 100)
    assert account.lost == 10
    account.book(2, 200, 140)
    assert account.lost == 25


def test_who_was_late_brings_back_what_was_lost():
    account = Account(1)
    assert account.book(0, 40, 20) == 0.5
    assert account.lost == 20
    assert account.book(0, 80, 60) == 1  # no more than all
    assert account.lost == 0
    assert account.book(0, 70, 0) == 1  # one that is behind makes nobody go back
    assert account.until(0) == 80


def test_what_an_island_trained_is_new_after_the_last_turn_that_it_was_in_alone():
    one, late = Account(1), Account(1)
    assert one.is_new(2, late)
    for account in (one, late):
        account.book(0, 12, 12)
        account.meet([0, 1, 2], [4.0, 4.0, 4.0], meeting=1)
    before = Account(1)
    before.load_facts(json.loads(json.dumps(late.facts())))
    one.meet([0, 1], [4.0, 4.0], meeting=1)
    assert one.is_new(2, late)  # it missed a turn
    one.meet([0, 2], [4.0, 4.0], meeting=1)
    assert not one.is_new(2, late)  # it came back from before a turn that it was in
    assert not one.is_new(2, Account(1))
    late.meet([1, 2], [4.0, 4.0], meeting=1)  # went on with another, apart
    assert not one.is_new(2, late)
    assert late.facts() != one.facts() != before.facts()
