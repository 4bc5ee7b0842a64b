"""What the logs of islands' worlds say of the samples in the shared weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.train.feed import START, nth_step

from crore.train.fault.merged import merged
from crore.train.records import Event, EventKind, Record, Step

OWN = 2


def ran(step: int, island: int, islands: int = 2) -> Step:
    """Return the record of a step on one of some islands."""
    first = ((step - 1) * islands + island) * OWN
    return replace(
        nth_step(step), first_sample=(step - 1) * islands * OWN, samples=islands * OWN,
        own_samples=(first, first + OWN),
    )  # fmt: skip


def event(step: int, what: EventKind, message: str = "") -> Record:
    return Event(step=step, what=what, message=message)


def turn(step: int) -> Record:
    return event(step, "outer step", "turn 1: fragment 0, 2 islands")


def counts(*logs: list[Record], islands: int = 2) -> list[int]:
    """Return how often each sample is in the weights; records come in turns, log by log."""
    seconds = iter(range(999))
    stamped = {
        world: [replace(it, time=f"2026-11-27T10:00:{next(seconds):03d}") for it in log]
        for world, log in enumerate(logs)
    }
    return [int(count) for count in merged(stamped, worlds=len(logs), islands=islands)]


def test_what_islands_ran_is_in_the_weights_after_their_turn():
    one, other = [ran(1, 0), ran(2, 0), turn(2)], [ran(1, 1), ran(2, 1), turn(2)]
    assert counts(one, other) == [1] * 8
    assert counts([*one, ran(3, 0)], other) == [1] * 8  # not yet


def test_an_island_that_is_away_leaves_its_own_out():
    one = [ran(1, 0), turn(1), ran(2, 0), turn(2)]
    assert counts(one, [ran(1, 1), turn(1)]) == [1] * 4 + [1, 1]


@pytest.mark.parametrize(
    "lost",
    [
        event(2, "fenced", "this island's outer gradient is left out"),
        event(2, "joined", "took up the islands' turn 9, step 9; the others have what it trained"),
        event(0, "roll back", "loss spike"),
        replace(START, step=0),
    ],
    ids=lambda it: it.kind,
)
def test_what_is_lost_before_a_turn_is_not_in_them(lost):
    one = [ran(1, 0), ran(2, 0), lost, turn(2), ran(3, 0), turn(3)]
    assert counts(one, []) == [0] * 8 + [1, 1]


def test_what_is_kept_or_was_not_of_the_islands_changes_nothing():
    kept = event(2, "joined", "took up the islands' turn 9, step 9; keeps what it trained")
    assert counts([ran(1, 0), kept, turn(2)], []) == [1, 1]
    assert counts([ran(1, 0), event(1, "note"), replace(START, step=1), turn(1)], []) == [1, 1]


def test_a_step_that_is_taken_anew_counts_once():
    one = [ran(1, 0), ran(2, 0), ran(2, 0), turn(2)]
    assert counts(one, []) == [1, 1, 0, 0, 1, 1]


def test_a_sample_that_is_brought_twice_is_seen():
    assert counts([ran(1, 0), turn(1), ran(1, 0), turn(2)], []) == [2, 2]


def test_worlds_of_one_island_share_its_turns():
    """The second world starts again, and the first goes on: nothing of the island is lost."""
    first = replace(ran(1, 0, 1), own_samples=(0, 1))
    second = replace(ran(1, 0, 1), own_samples=(1, 2))
    logs: dict[int, list[Record]] = {
        0: [
            replace(first, time="2026-11-27T10:00:01"),
            replace(turn(1), time="2026-11-27T10:00:04"),
        ],
        1: [
            replace(second, time="2026-11-27T10:00:02"),
            replace(START, step=0, time="2026-11-27T10:00:03"),
        ],
    }
    assert merged(logs, worlds=2, islands=1).tolist() == [1, 1]
