"""Islands that meet at a lighthouse: who is behind, astray or late takes up the others' state."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from tests.train.fault.lone import Island

from crore.train.fault.torchft import lighthouse
from crore.train.islands.settings import Outer

pytestmark = [
    pytest.mark.skipif(find_spec("torchft") is None, reason="needs crore[ft]"),
    pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning"),
]


@pytest.fixture
def fleet() -> Iterator[str]:
    server = lighthouse(port=0, host="127.0.0.1", least=2, grace_s=1.0)
    yield f"http://127.0.0.1:{str(server.address()).rpartition(':')[2]}"
    server.shutdown()


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
            thread.join(120)
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
        thread.join(120)
        assert not thread.is_alive()
    assert islands[0].bits() == islands[1].bits() == islands[2].bits()
    assert "joined" in [what for what, _ in islands[0].told]
    assert "joined" not in [what for what, _ in islands[1].told]
    for it in islands:
        it.islands.close()
    house.shutdown()


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
            thread.join(120)
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
