"""Islands that join: what one world brings back all of its island hold, or nothing has happened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crore.train.fault.seat import Seat
from crore.train.fault.torchft import lighthouse
from crore.train.islands.joining import Islands
from crore.train.islands.settings import Outer
from crore.train.loop import Trainer
from crore.train.peers import Alone
from crore.train.place import Place

STEPS = 12


class OneMember:
    """A meeting of islands to which nobody else comes."""

    number, place, size, group, failed = 0, 0, 1, None, False

    def add(self, tensor: Tensor, wait_s: float) -> None:
        """Nobody adds anything."""

    def begin(self, done: int) -> None:
        """Nobody is waited for."""

    def fail(self, error: Exception) -> None:
        raise error

    def commit(self) -> bool:
        return True

    def close(self) -> None:
        """Nobody is left."""


class Failing(Alone):
    """Worlds of an island whose meeting does not hold, some times."""

    def __init__(self, times: int, *, leads: bool = True) -> None:
        super().__init__()
        self.times, self.leads, self.votes = times, leads, 0

    def publish(self, tensors: Sequence[Tensor]) -> None:
        """What another leads with does not arrive: a sum over nobody."""
        if not self.leads:
            for tensor in tensors:
                tensor.zero_()

    def commit(self) -> bool:
        self.votes += 1
        return self.votes > self.times


class Linked(Alone):
    """Worlds of one island in one process: what the first publishes the second is given."""

    def __init__(self, sent: list[Tensor], *, leads: bool) -> None:
        super().__init__()
        self.sent, self.leads = sent, leads

    def publish(self, tensors: Sequence[Tensor]) -> None:
        if self.leads:
            self.sent += [tensor.clone() for tensor in tensors]
        else:
            for tensor in tensors:
                tensor.copy_(self.sent.pop(0))


class Run:
    """What joining needs to know of a run of so many steps, of eight samples each."""

    def __init__(self) -> None:
        self.place, self.share = Place(), SimpleNamespace(whole=4)
        self.job = SimpleNamespace(seq_len=8)

    @property
    def over(self) -> bool:
        return self.place.samples >= 8 * STEPS


class Island:
    """An island's world with weights of its own, as far as joining sees it."""

    def __init__(
        self, outer: Outer, peers: Any = None, *, island: int = 0, islands: int = 2,
        fleet: str = "",
    ) -> None:  # fmt: skip
        self.weights = {
            f"layers.{k}.w": torch.nn.Parameter(torch.full((3, 2), float(k))) for k in range(2)
        }
        self.told: list[tuple[str, str]] = []
        seat = Seat(world=island, worlds=1, island=island, islands=islands, fleet=fleet)
        self.islands = Islands(
            seat, outer, self.weights, peers=peers or Alone(), asked=lambda: False,
            tell=lambda what, line: self.told.append((what, line)),
        )  # fmt: skip
        if not fleet:
            self.islands._meeting = cast("Any", OneMember())
        self.run = cast("Trainer", Run())

    def train(self, steps: int, by: float = 0.25) -> None:
        """Take inner steps, each of which moves the weights."""
        for _ in range(steps):
            with torch.no_grad():
                for weight in self.weights.values():
                    weight.add_(by)
            self.run.place.step += 1
            self.run.place.samples += 8
            self.run.place.met += 1
            self.islands.after(self.run)

    def bits(self) -> dict[str, bytes]:
        """Return all bits that a turn may change."""
        tensors = {**self.islands.tensors(), **self.weights}
        return {
            name: bytes(t.detach().contiguous().view(torch.uint8).flatten().tolist())
            for name, t in tensors.items()
        }

    def all_of_it(self) -> tuple[Any, ...]:
        return self.bits(), self.islands.facts(), repr(self.run.place)


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
        assert self.may.wait(60)


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


@pytest.fixture
def fleet() -> Iterator[str]:
    server = lighthouse(port=0, host="127.0.0.1", least=2, grace_s=1.0)
    yield f"http://127.0.0.1:{str(server.address()).rpartition(':')[2]}"
    server.shutdown()


@pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]")
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_two_islands_meet_average_and_one_that_is_behind_takes_up_the_others_turn(fleet):
    outer = Outer(interval=4, lr=1.0, momentum=0.0, nesterov=False)
    one, two = (Island(outer, island=k, fleet=fleet) for k in range(2))

    def joined() -> None:
        threads = [
            threading.Thread(target=it.islands.join, args=(it.run,), daemon=True)
            for it in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    one.train(4, by=0.25)
    two.train(4, by=0.75)
    joined()
    assert one.bits() == two.bits()
    assert {float(w.detach().min()) for w in one.weights.values()} == {2.0, 3.0}
    late = Island(outer, island=1, fleet=fleet)  # as one that begins anew
    two.islands.close()
    two = late
    one.train(4, by=0.25)
    two.train(2, by=0.25)
    joined()
    assert two.islands.turns == one.islands.turns == 2
    assert two.run.place.step == one.run.place.step == 8
    assert one.bits() == two.bits()
    # The others have what it had trained: the other's counts alone, of half of the samples.
    assert one.weights["layers.0.w"].detach().mean().item() == pytest.approx(2.0 + 1 / 2)
    for it in (one, two):
        assert (it.run.place.samples, it.run.place.set_aside) == (48, 16)
    assert "joined" in [what for what, _ in two.told]
    one.train(4, by=0.25)
    two.train(2, by=0.25)
    two.run.place.step = one.run.place.step
    joined()
    # From then on progress counts by its tokens: (4 x 1.0 + 2 x 0.5) / 6, of 3 samples in 4.
    assert one.bits() == two.bits()
    assert one.weights["layers.0.w"].detach().mean().item() == pytest.approx(2.5 + 5 / 6 * 3 / 4)
    for it in (one, two):
        assert (it.run.place.samples, it.run.place.set_aside) == (72, 24)
    for island in (one, two):
        island.islands.close()


@pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]")
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_islands_that_are_at_one_turn_by_different_ways_end_as_one():
    """After an outage of all, those that are back first may take turns anew."""
    house = lighthouse(port=0, host="127.0.0.1", least=3, grace_s=60.0)
    fleet = "http://127.0.0.1:" + str(house.address()).rpartition(":")[2]
    outer = Outer(interval=4, lr=1.0, momentum=0.0, nesterov=False)
    islands = [Island(outer, island=k, islands=3, fleet=fleet) for k in range(3)]
    for it in islands:
        it.train(4, by=0.25)
        it.islands.turns = 0
    for tensor in islands[0].islands.tensors().values():
        tensor.add_(1.0)  # the first has a history of its own
    threads = [
        threading.Thread(target=it.islands.join, args=(it.run,), daemon=True) for it in islands
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert islands[0].bits() == islands[1].bits() == islands[2].bits()
    assert "joined" in [what for what, _ in islands[0].told]
    assert "joined" not in [what for what, _ in islands[1].told]
    for it in islands:
        it.islands.close()
    house.shutdown()


@pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]")
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_an_island_that_is_late_at_the_end_is_given_the_last_state(fleet):
    outer = Outer(interval=4, lr=1.0, momentum=0.0, nesterov=False)
    one, two, late = (Island(outer, island=k, islands=3, fleet=fleet) for k in range(3))

    def together(does: Callable[[Island], Any], *islands: Island) -> list[threading.Thread]:
        threads = [threading.Thread(target=does, args=(it,), daemon=True) for it in islands]
        for thread in threads:
            thread.start()
        return threads

    def ended(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()

    while not one.run.over:
        one.train(4, by=0.25)
        two.train(4, by=0.75)
        ended(together(lambda it: it.islands.join(it.run), one, two))
    last = one.bits(), repr(one.run.place)
    seeing_off = together(lambda it: it.islands.see_off(it.run), one, two)
    late.train(2, by=4.0)
    late.run.place.step = 4
    assert late.islands.join(late.run)
    ended(seeing_off)
    assert late.run.over
    assert not late.islands.due(late.run)
    late.run.place.met = one.run.place.met
    for it in (one, two, late):
        assert (it.bits(), repr(it.run.place)) == last
    ((what, line),) = late.told
    assert what == "joined"
    assert line.endswith("the run has ended without what it trained")
    together(lambda it: it.islands.see_off(it.run), late)[0].join(5)  # nobody else is late
    for it in (one, two, late):
        it.islands.close()


def test_islands_that_end_together_wait_for_nobody():
    island = Island(Outer(interval=4), islands=1)
    island.train(4)
    assert island.islands.join(island.run)
    island.islands._meeting = None
    island.islands.see_off(island.run)
    assert island.islands._meeting is None
