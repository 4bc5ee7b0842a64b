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


def turn(step: int, *islands: int, mark: str = "", after: str = "") -> Record:
    """Return what an island says of the turn after a step, which some islands were in."""
    heard = ", ".join(map(str, islands)) or "none"
    marks = f"{mark or step} after {after or step - 1}"
    line = f"turn {step}, {marks}: fragment 0 of islands {heard}; 9 bytes sent"
    return event(step, "outer step", line)


def counts(*told: tuple[int, Record], worlds: int = 2, islands: int = 2) -> list[int]:
    """Return how often each sample is in the weights; records come as they are told by worlds."""
    logs: dict[int, list[Record]] = {world: [] for world in range(worlds)}
    for second, (world, record) in enumerate(told):
        logs[world].append(replace(record, time=f"2026-11-27T10:00:{second:02d}"))
    return [int(count) for count in merged(logs, worlds=worlds, islands=islands)]


def test_what_islands_ran_is_in_the_weights_after_their_turn():
    told = [(0, ran(1, 0)), (1, ran(1, 1)), (0, ran(2, 0)), (1, ran(2, 1))]
    both = [(0, turn(2, 0, 1)), (1, turn(2, 0, 1))]
    assert counts(*told) == []
    assert counts(*told, *both) == [1] * 8
    assert counts(*told, *both, (0, ran(3, 0))) == [1] * 8  # not yet


def test_an_island_that_dies_before_it_can_tell_was_in_the_turn_that_others_tell():
    told: list[tuple[int, Record]] = [
        (0, ran(1, 0)),
        (1, ran(1, 1)),
        (0, turn(1, 0, 1)),
        (1, replace(START, step=0)),
    ]
    assert counts(*told) == [1] * 4


def test_an_island_that_is_away_leaves_its_own_out():
    told = [(0, ran(1, 0)), (1, ran(1, 1)), (0, ran(2, 0)), (0, turn(2, 0))]
    assert counts(*told) == [1, 1, 0, 0, 1, 1]


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
    told: list[Record] = [ran(1, 0), ran(2, 0), lost, turn(2, 0), ran(3, 0), turn(3, 0)]
    assert counts(*((0, record) for record in told)) == [0] * 8 + [1, 1]


def test_what_is_kept_or_was_not_of_the_islands_changes_nothing():
    kept = event(2, "joined", "took up the islands' turn 9, step 9; keeps what it trained")
    assert counts((0, ran(1, 0)), (0, kept), (0, turn(2, 0))) == [1, 1]
    told: list[Record] = [ran(1, 0), event(1, "note"), replace(START, step=1), turn(1, 0)]
    assert counts(*((0, record) for record in told)) == [1, 1]


def test_a_step_that_is_taken_anew_counts_once():
    told: list[Record] = [ran(1, 0), ran(2, 0), ran(2, 0), turn(2, 0)]
    assert counts(*((0, record) for record in told)) == [1, 1, 0, 0, 1, 1]


def test_a_sample_that_is_brought_twice_is_seen():
    told: list[Record] = [ran(1, 0), turn(1, 0), ran(1, 0), turn(2, 0)]
    assert counts(*((0, record) for record in told)) == [2, 2]


def test_a_turn_that_nobody_is_left_to_know_of_is_undone():
    """Both die after it, come back from before it, and take it anew; what was in it counts once."""
    run: list[tuple[int, Record]] = [(0, ran(1, 0)), (1, ran(1, 1))]
    first: list[tuple[int, Record]] = [*run, (0, turn(1, 0, 1, mark="a"))]
    back: list[tuple[int, Record]] = [(k, replace(START, step=0)) for k in (0, 1)]
    again: list[tuple[int, Record]] = [*run, (0, turn(1, 0, 1, mark="b"))]
    further: list[tuple[int, Record]] = [(0, ran(2, 0)), (0, turn(2, 0, after="b"))]
    assert counts(*first) == [1] * 4
    assert counts(*first, *back, *again, *further) == [1, 1, 1, 1, 1, 1]
    alone: list[tuple[int, Record]] = [*back, run[0], (0, turn(1, 0, mark="c"))]
    assert counts(*first, *alone) == [1, 1]  # the other's is lost


def test_a_turn_that_heard_nobody_brings_nothing():
    assert counts((0, ran(1, 0)), (0, turn(1))) == []


def test_worlds_of_one_island_share_its_turns():
    """The second world starts again, and the first goes on: nothing of the island is lost."""
    first = replace(ran(1, 0, 1), own_samples=(0, 1))
    second = replace(ran(1, 0, 1), own_samples=(1, 2))
    told: list[tuple[int, Record]] = [
        (0, first),
        (1, second),
        (1, replace(START, step=0)),
        (0, turn(1, 0)),
    ]
    assert counts(*told, islands=1) == [1, 1]
