"""Islands that join: what one world brings back all of its island hold, or nothing has happened."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.train.fault.lone import STEPS, Failing, Island, Linked, OneMember
from torch import Tensor

from crore.train.islands.settings import Outer

OUTERS = (
    Outer(interval=4), Outer(interval=4, fragments=2), Outer(interval=4, bits=8, mixing=0.5),
)  # fmt: skip


@given(
    steps=st.integers(1, 60), spacing=st.integers(1, 6), fragments=st.integers(1, 4),
    data=st.data(),
)  # fmt: skip
def test_turns_come_evenly_and_at_the_end_every_fragment_has_its_last(
    steps, spacing, fragments, data
):
    overlap = data.draw(st.integers(0, spacing - 1))
    outer = Outer(interval=spacing * fragments, fragments=fragments, overlap=overlap)
    islands = Island(outer).islands
    expected = [islands._expected(step, over=step == steps) for step in range(steps + 1)]
    assert expected == sorted(expected)
    for step in range(steps):
        due = [k for k in range(1, step + 1) if outer.takes(k) is not None]
        assert expected[step] == len(due)
    before, last = steps // spacing, expected[steps]
    if fragments == 1:
        assert last == -(-steps // spacing)  # the last step is the end of a round, whole or not
    else:
        assert [turn % fragments for turn in range(before, last)] != []
        assert {turn % fragments for turn in range(before, last)} == set(range(fragments))


@pytest.mark.parametrize("outer", OUTERS, ids=repr)
def test_a_meeting_that_does_not_hold_changes_no_bit(outer):
    once, never = Island(outer, Failing(1)), Island(outer, Failing(0))
    for island in (once, never):
        island.train(4)
        assert island.islands.due(island.run)
    before = once.all_of_it()
    assert not once.islands.join(once.run)
    assert once.all_of_it() == before
    assert once.islands.due(once.run)
    assert once.told == []
    assert once.islands.join(once.run)
    assert once.all_of_it() != before
    # And then it is as if it had held at once.
    assert never.islands.join(never.run)
    assert once.all_of_it() == never.all_of_it()
    assert [what for what, _ in once.told] == ["outer step"]
    assert once.islands.turns == 1


def test_a_letter_that_is_lost_changes_no_bit_of_a_world_that_follows():
    world = Island(OUTERS[0], Failing(0, leads=False))
    world.train(4)
    before = world.all_of_it()
    assert not world.islands.join(world.run)
    assert world.all_of_it() == before
    assert world.told == []


@pytest.mark.parametrize("outer", OUTERS, ids=repr)
def test_worlds_of_an_island_hold_the_same_after_each_turn(outer):
    sent: list[Tensor] = []
    first, second = (Island(outer, Linked(sent, leads=leads)) for leads in (True, False))
    for _ in range(3):
        for world in (first, second):
            world.train(4)
        while first.islands.due(first.run):
            assert first.islands.join(first.run)
            assert second.islands.join(second.run)
            assert sent == []
            assert first.all_of_it() == second.all_of_it()
        assert not second.islands.due(second.run)
    assert second.told == []  # the one that leads speaks
    assert len(first.told) == first.islands.turns > 2


def test_a_turn_is_the_outer_step_and_what_was_counted_is_used_up():
    island = Island(Outer(interval=4, lr=0.5, momentum=0.0, nesterov=False))
    island.train(4)
    assert island.islands.state.tokens == [4 * 4 * 8]
    assert island.islands.join(island.run)
    assert island.islands.state.tokens == [0]
    # Half of the rate, and half again: the other island, which is away, has moved nothing.
    assert {float(w.detach().min()) for w in island.weights.values()} == {0.25, 1.25}
    assert island.run.place.met == 4  # the loop counts the meeting
    ((_, line),) = island.told
    mark = f"{island.islands.account.mark:08x}"
    told = (
        f"turn 1, {mark} after 00000000: fragment 0 of islands 0; 0 bytes sent and 0 of facts in "
    )
    assert line.startswith(told)


def test_what_a_checkpoint_keeps_is_taken_up():
    island, other = Island(OUTERS[1]), Island(OUTERS[1])
    island.train(2)
    island.islands.join(island.run)
    other.islands.load_facts(island.islands.facts())
    for name, tensor in island.islands.tensors().items():
        other.islands.tensors()[name].copy_(tensor)
    assert other.islands.facts() == island.islands.facts()
    assert other.islands.turns == 1


def seen_through(island: Island) -> int:
    """Train an island to its end, with all turns that are due; return its steps."""
    while True:
        while island.islands.due(island.run):
            assert island.islands.join(island.run)
        if island.run.over:
            return island.run.place.step
        island.train(1)


@pytest.mark.parametrize("outer", OUTERS, ids=repr)
def test_an_island_that_others_leave_alone_takes_their_samples_too(outer):
    """It has half of the samples of each step: it takes as many steps again."""
    island = Island(outer)
    steps = seen_through(island)
    assert island.run.place.samples == 8 * STEPS
    assert steps == 2 * STEPS
    assert island.run.place.set_aside == 8 * STEPS
    assert island.run.place.next_sample == 8 * steps
    assert island.islands.account.lost == 8 * STEPS


@pytest.mark.parametrize("whole", [1, 3, 5, 7])
@pytest.mark.parametrize("outer", OUTERS, ids=repr)
def test_the_run_ends_with_the_samples_that_were_planned_whatever_part_is_lost(outer, whole):
    island = Island(outer)
    island.run.share = cast("Any", SimpleNamespace(whole=whole))
    steps = seen_through(island)
    assert 8 * STEPS <= island.run.place.samples < 8 * STEPS + 8
    assert island.run.place.samples == whole * steps
    assert island.run.place.next_sample == 8 * steps


@pytest.mark.parametrize("outer", OUTERS, ids=repr)
def test_nothing_is_lost_while_nobody_is_away(outer):
    island = Island(outer)
    island.run.share = cast("Any", SimpleNamespace(whole=8))
    assert seen_through(island) == STEPS
    assert island.run.place.samples == 8 * STEPS
    assert island.run.place.set_aside == 0


def test_tokens_that_are_trained_while_a_fragment_is_sent_count_for_its_next_turn():
    outer = Outer(interval=4, overlap=2)
    island = Island(outer)
    island.train(6)
    assert island.islands.due(island.run)
    assert island.islands.join(island.run)
    assert island.islands.state.tokens == [2 * 4 * 8]
    assert island.islands.account.until(0) == 4 * 8
    assert island.islands.account.lost == 4 * 4


class Late(OneMember):
    """A meeting that begins when it is let."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def begin(self, done: int) -> None:
        del done
        assert self.may.wait(120)


def test_what_is_sent_while_training_goes_on_is_what_was_there_when_it_was_sent():
    outer = Outer(interval=4, overlap=2, lr=1.0, momentum=0.0, nesterov=False, mixing=1.0)
    island, meeting = Island(outer), Late()
    island.islands._meeting = cast("Any", meeting)
    island.train(4)
    assert not island.islands.due(island.run)
    island.train(2)  # the other islands are late
    meeting.may.set()
    assert island.islands.due(island.run)
    assert island.islands.join(island.run)
    assert {float(w.detach().min()) for w in island.weights.values()} == {0.5, 1.5}


def test_islands_that_end_together_wait_for_nobody():
    island = Island(Outer(interval=4), islands=1)
    island.train(4)
    assert island.islands.join(island.run)
    island.islands._meeting = None
    island.islands.see_off(island.run)
    assert island.islands._meeting is None
