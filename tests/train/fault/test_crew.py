"""Worlds with a real lighthouse: they add up, go on without one that is gone, and take one in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from crore.train.fault import crew, torchft
from crore.train.fault.crew import Crew, _buckets
from crore.train.fault.seat import Seat
from crore.train.fault.worlds import Lighthouse
from crore.train.peers import Left, Torn

pytestmark = [
    pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]"),
    # Warnings of torchft's own calls; as errors they would make a meeting fail.
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning"),
]
GRACE_S, DEAD_AFTER_S = 5.0, 6.0
"""A world that a busy machine holds up for less is neither left out nor dead."""
GIVE_UP_S = 120.0
"""No world of a test needs longer, however busy the machine."""


def no() -> bool:
    return False


class World:
    """One world as a thread: `act` is what it does, `told` what it says."""

    def __init__(self, number: int, house: str, *, worlds: int = 2, asked: Callable[[], bool] = no):
        self.number, self.told, self.loaded = number, list[str](), list[Any]()
        self.done, self.weights = 0, torch.full((3,), float(number))
        self.crew = Crew(
            Seat(world=number, worlds=worlds, lighthouse=house), tell=self.told.append, asked=asked
        )
        self.crew.attach(self.state, self.load)
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def state(self) -> Any:
        return {"w": self.weights}, {"done": self.done}

    def load(self, state: Any) -> None:
        tensors, facts = state
        self.weights.copy_(tensors["w"])
        self.done = facts["done"]
        self.loaded.append(self.done)

    def step(self, *, checksum: int = 5, busy_s: float = 0.01) -> bool:
        """Take a step, which moves the weights by the worlds' sum where it holds."""
        self.crew.begin(done=self.done)
        moved = torch.full((3,), self.number + 1.0)
        self.crew.add([moved])
        self.crew.sums({"n": 1.0}, checksum, busy_s)
        holds = self.crew.commit()
        if holds:
            self.weights += moved
            self.done += 1
        return holds

    def start(self, act: Callable[[World], Any]) -> World:
        """Do something beside the others."""

        def work() -> None:
            try:
                self.result = act(self)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        return self

    def end(self) -> Any:
        """Wait for what was started; return what it returned, raise what it raised."""
        assert self._thread is not None
        self._thread.join(GIVE_UP_S)
        assert not self._thread.is_alive(), f"world {self.number} is still waiting"
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have messages and groups wait long: what hangs here hangs on purpose."""
    monkeypatch.setattr(crew, "LEAST_S", GIVE_UP_S / 2)
    monkeypatch.setattr(crew, "FIRST_S", GIVE_UP_S / 2)
    monkeypatch.setattr(torchft, "FORM_S", GIVE_UP_S / 2)


@pytest.fixture
def house() -> Iterator[str]:
    """Light a lighthouse, and return where it is."""
    server = torchft.lighthouse(
        port=0, host="127.0.0.1", least=1, grace_s=GRACE_S, dead_after_s=DEAD_AFTER_S
    )
    yield f"http://127.0.0.1:{str(server.address()).rpartition(':')[2]}"
    server.shutdown()


@pytest.fixture
def made(house: str) -> Iterator[Callable[..., World]]:
    """Return what makes worlds, which leave at the end."""
    worlds: list[World] = []

    def make(number: int, **more: Any) -> World:
        worlds.append(World(number, house, **more))
        return worlds[-1]

    yield make
    for world in worlds:
        world.crew.close()


def together(worlds: list[World], act: Callable[[World], Any]) -> list[Any]:
    """Have worlds do the same beside each other; return what each returned."""
    for world in worlds:
        world.start(act)
    return [world.end() for world in worlds]


def steps(count: int) -> Callable[[World], list[bool]]:
    """Return what takes so many steps."""
    return lambda world: [world.step() for _ in range(count)]


def until_there(*numbers: int) -> Callable[[World], None]:
    """Return what takes steps until one holds that just these worlds took."""

    def act(world: World) -> None:
        while not (world.step() and world.crew.members == numbers):
            time.sleep(0.01)

    return act


def met(*worlds: World) -> list[World]:
    """Return worlds that have taken a step together, from equal weights."""
    together(list(worlds), until_there(*(world.number for world in worlds)))
    for world in worlds:
        world.weights.zero_()
        world.loaded.clear()
    assert len({world.done for world in worlds}) == 1
    return list(worlds)


def test_worlds_add_up_and_know_who_took_part(made):
    def act(world: World) -> Any:
        world.crew.begin(done=world.done)
        k = world.number + 1.0
        mixed = [torch.full((2, 2), k), torch.full((3,), 10 * k, dtype=torch.float64),
                 torch.full((1,), 100 * k), torch.empty(0, 4)]  # fmt: skip
        world.crew.add(mixed)
        numbers = world.crew.sums({"nats": k, "more": 0.5}, 7, 0.01)
        share = world.crew.share(0, 8, 1, equal=False)
        said = (numbers, share.first, share.samples, world.crew.leads)
        return [t.unique().tolist() for t in mixed], *said, world.crew.commit(), world.crew.members

    worlds = [made(0), made(1)]
    assert [world.crew.leads for world in worlds] == [True, False]  # before anybody met
    first, second = together(met(*worlds), act)
    sums = [[3.0], [30.0], [300.0], []]
    assert first == (sums, {"nats": 3.0, "more": 1.0}, 0, 4, True, True, (0, 1))
    assert second == (sums, {"nats": 3.0, "more": 1.0}, 4, 4, False, True, (0, 1))


def test_the_one_that_leads_gives_all_its_tensors(made):
    def act(world: World) -> Any:
        world.crew.begin(done=world.done)
        letter = torch.tensor([17, 0, 255] if world.crew.leads else [1, 2, 3], dtype=torch.uint8)
        weights = torch.full((4,), 0.1 + world.number)
        world.crew.publish([letter, weights])
        return letter.tolist(), weights.tolist(), world.crew.commit()

    first, second = together(met(made(0), made(1)), act)
    assert first == second
    assert first[0] == [17, 0, 255]
    assert first[1] == torch.full((4,), 0.1).tolist()


def test_when_one_leaves_the_other_goes_on_within_seconds(made):
    stays, goes = met(made(0), made(1))
    assert together([stays, goes], steps(2)) == [[True, True]] * 2
    done = stays.done
    goes.crew.close()
    began_s = time.monotonic()
    held: list[bool] = []
    while not held or not held[-1]:
        held += stays.start(steps(1)).end()
    assert time.monotonic() - began_s < 15
    assert stays.crew.members == (0,)
    assert stays.done == done + 1
    assert stays.weights.tolist() == [3 + 3 + 1] * 3
    assert stays.crew.share(0, 8, 1, equal=False).samples == 8


def test_one_that_joins_takes_up_the_state_and_then_its_part(made):
    first, second = met(made(0, worlds=3), made(1, worlds=3))
    done = first.done
    together([first, second], steps(2))
    third = made(2, worlds=3)
    worlds = [first, second, third]
    together(worlds, until_there(0, 1, 2))
    assert [it.crew.share(0, 9, 1, equal=False).samples for it in worlds] == [3, 3, 3]
    assert third.loaded
    assert third.loaded[0] >= done + 2
    assert third.done == first.done > done + 2
    assert torch.equal(third.weights, first.weights)
    assert first.loaded == second.loaded == []


def test_a_world_that_stands_still_is_gone_after_some_usual_steps(made, monkeypatch):
    """It still says that it lives, as a thread that waits for ever does; the others are more."""
    *go_on, hangs = met(*(made(k, worlds=3) for k in range(3)))
    together([*go_on, hangs], steps(4))
    least_s, usual_s = 3.0, crew.LEAST_S
    monkeypatch.setattr(crew, "LEAST_S", least_s)
    hangs.start(lambda world: world.crew.begin(done=world.done))  # and sends nothing
    began_s = time.monotonic()
    for held, waited_s in together(go_on, lambda it: (it.step(), time.monotonic() - began_s)):
        assert not held
        assert least_s <= waited_s < least_s + 10
    monkeypatch.setattr(crew, "LEAST_S", usual_s)
    assert together(go_on, steps(1)) == [[True]] * 2
    assert [world.crew.members for world in go_on] == [(0, 1)] * 2


def test_two_that_hold_different_weights_are_torn(made):
    worlds = met(made(0), made(1))
    done = worlds[0].done
    for world in worlds:
        world.start(lambda it: it.step(checksum=it.number))
    for world in worlds:
        with pytest.raises(Torn, match="no majority says whose are right"):
            world.end()
        assert world.done == done


def test_of_three_the_one_that_differs_takes_up_the_others_state(made):
    worlds = met(*(made(k, worlds=3) for k in range(3)))
    done = worlds[0].done
    worlds[1].weights[0] = 99.0
    held = together(worlds, lambda world: world.step(checksum=int(world.weights.sum())))
    assert held == [False] * 3
    assert all("weights of world 1 differ" in world.told[-1] for world in worlds)
    assert together(worlds, steps(1)) == [[True]] * 3
    assert [world.loaded for world in worlds] == [[], [done], []]
    assert torch.equal(worlds[1].weights, worlds[0].weights)
    assert [world.done for world in worlds] == [done + 1] * 3


def test_a_slow_world_leaves_and_says_why(made):
    def act(world: World) -> int:
        for _ in range(9):
            world.step(busy_s=3.0 if world.number == 2 else 0.3)
        return world.done

    worlds = met(*(made(k, worlds=3) for k in range(3)))
    done = worlds[0].done
    for world in worlds:
        world.start(act)
    with pytest.raises(Left, match="world 2 is 10 times slower: it leaves"):
        worlds[2].end()
    worlds[2].crew.close()
    assert worlds[2].done == done + 6
    for world in worlds[:2]:
        assert world.end() >= done + 7
        assert world.crew.members == (0, 1)


def test_a_lighthouse_that_dies_is_waited_for_until_a_world_is_asked_to_leave(monkeypatch):
    monkeypatch.setattr("crore.train.fault.crew.QUORUM_S", 3.0)  # of one try
    asked = threading.Event()
    lamp = Lighthouse(least=1, grace_s=GRACE_S)
    lamp.start()
    where = lamp.address
    worlds = [World(k, where, asked=asked.is_set) for k in range(2)]
    try:
        met(*worlds)
        lamp.kill()
        assert not lamp.alive
        for world in worlds:
            world.start(until_there(0, 1))
        wait_for(lambda: all(world.told for world in worlds))
        lamp.start()
        assert lamp.address == where
        for world in worlds:
            world.end()
        lamp.kill()
        for world in worlds:
            world.told.clear()
            world.start(steps(1))
        wait_for(lambda: all(world.told for world in worlds))
        asked.set()
        for world in worlds:
            with pytest.raises(Left):
                world.end()
            (told,) = world.told  # once, however often it asked
            assert told.startswith("no quorum (")
            assert told.endswith("): asking again")
    finally:
        asked.set()
        for world in worlds:
            world.crew.close()
        lamp.kill()


def wait_for(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end_s = time.monotonic() + GIVE_UP_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_bucket_holds_tensors_of_one_type_up_to_its_size(monkeypatch):
    monkeypatch.setattr("crore.train.fault.crew.BUCKET_BYTES", 40)
    sizes = [(4, torch.float32), (6, torch.float32), (1, torch.float32), (20, torch.float32),
             (2, torch.float64), (2, torch.float32)]  # fmt: skip
    given = [torch.zeros(n, dtype=kind) for n, kind in sizes]
    assert [[t.numel() for t in bucket] for bucket in _buckets(given)] == [[4, 6], [1], [20], [2],
                                                                           [2]]  # fmt: skip
