"""A world alone, and a run on one island, have an answer to all that the loop asks of others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.train.tiny import home, job

from crore.errors import InputError
from crore.train.fault.seat import Seat, address, folder_of, island_of, seat_of
from crore.train.fleet import OneIsland
from crore.train.islands.joining import Islands
from crore.train.islands.settings import Outer
from crore.train.others import others_of
from crore.train.peers import Alone


def tell(line: str, kind: str = "note") -> None:
    raise AssertionError((line, kind))


def asked() -> bool:
    return False


def test_alone_nothing_changes_and_every_step_holds():
    peers, weights = Alone(), torch.arange(4.0)
    peers.begin(done=3)
    peers.add([weights])
    peers.publish([weights])
    assert weights.tolist() == [0, 1, 2, 3]
    assert peers.sums({"nats": 2.5}, 17, 0.1) == {"nats": 2.5}
    assert peers.commit()
    assert peers.leads
    assert not peers.many
    assert peers.members == (0,)
    share = peers.share(40, 8, 4, equal=True)
    assert (share.first, share.samples, share.rows, share.whole, share.taken) == (40, 8, 8, 8, 8)
    peers.close()


def test_one_island_is_never_due_and_keeps_nothing():
    fleet = OneIsland()
    assert fleet.tensors() == fleet.facts() == {}


@pytest.fixture
def made(tmp_path: Path):
    return job(home(tmp_path))


def test_a_job_without_a_seat_has_no_others(made):
    found = others_of(made, {}, tell, asked)
    assert isinstance(found["peers"], Alone)
    assert isinstance(found["fleet"], OneIsland)
    assert found["peers"].members == (0,)


def test_a_world_alone_on_one_of_two_islands_meets_islands_only(made):
    seat = seat_of(1, worlds=2, islands=2, fleet="localhost:1")
    seated = job(made.folder.parent, seat=seat, outer=Outer(interval=4))
    found = others_of(seated, {"w": torch.ones(3)}, tell, asked)
    assert isinstance(found["peers"], Alone)
    assert found["peers"].members == (1,)
    assert found["peers"].share(0, 8, 1, equal=False).first == 4
    assert isinstance(found["fleet"], Islands)
    assert set(found["fleet"].tensors()) == {"w.global", "w.momentum"}
    found["fleet"].close()


def test_worlds_of_an_island_share_its_checkpoints_and_have_folders_of_their_own(made):
    first, second, third = (
        job(made.folder.parent, seat=Seat(world=k, worlds=2, island=k // 2, islands=2))
        for k in range(3)
    )
    assert first.checkpoints == second.checkpoints != third.checkpoints
    assert first.checkpoints.parent.name == "island-000"
    assert third.checkpoints.parent.name == "island-001"
    assert [folder_of(k) for k in (0, 12, 99_999)] == ["world-00000", "world-00012", "world-99999"]


def test_a_world_alone_keeps_its_checkpoints_in_its_folder(made):
    assert made.checkpoints.parent == made.folder


def test_worlds_sit_on_islands_in_order_and_spares_in_turn():
    assert [island_of(k, 6, 3) for k in range(6)] == [0, 0, 1, 1, 2, 2]
    assert [island_of(k, 6, 3) for k in range(6, 10)] == [0, 1, 2, 0]
    seats = [
        seat_of(k, worlds=4, islands=2, lighthouse="h:1", fleet="http://f:2") for k in range(6)
    ]
    assert [it.spare for it in seats] == [False] * 4 + [True] * 2
    assert [it.island for it in seats] == [0, 0, 1, 1, 0, 1]
    assert {(it.worlds, it.islands, it.lighthouse, it.fleet) for it in seats} == {
        (2, 2, "http://h:1", "http://f:2")
    }
    assert sorted(it.name for it in seats) == [it.name for it in seats]


@pytest.mark.parametrize(
    ("world", "given", "said"),
    [
        (-1, {}, "--world -1: worlds are numbered from 0"),
        (0, {}, "world 0 is one of 2 of its island: --lighthouse HOST:PORT says where they meet"),
        (9, {"fleet": "h:1"}, "world 9 is one of 2"),
        (0, {"lighthouse": "h:1"}, "world 0 is on one of 2 islands: --fleet HOST:PORT"),
        (0, {"lighthouse": "h", "fleet": "h:1"}, "--lighthouse must be HOST:PORT, such as"),
        (0, {"lighthouse": "h:1", "fleet": "h:port"}, "--fleet must be HOST:PORT, such as"),
    ],
)
def test_a_seat_that_cannot_be_is_one_line(world, given, said):
    with pytest.raises(InputError) as caught:
        seat_of(world, worlds=4, islands=2, **given)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_world_alone_on_its_island_needs_no_lighthouse():
    assert seat_of(0, worlds=1, islands=1).lighthouse == ""
    assert seat_of(1, worlds=2, islands=2, fleet="h:1").lighthouse == ""
    with pytest.raises(InputError, match="--lighthouse"):
        seat_of(1, worlds=1, islands=1)  # a spare meets the world it may stand in for


@pytest.mark.parametrize("text", ["h:0", "h:65536", ":1", "h:", "h:-1", "h:1.5", "http://:1"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match="must be HOST:PORT"):
        address(text, "--lighthouse")


@pytest.mark.parametrize(
    ("text", "read"),
    [("10.0.0.1:29510", "http://10.0.0.1:29510"), ("http://a.b:1", "http://a.b:1"), ("", "")],
)
def test_an_address_is_read_with_and_without_its_scheme(text, read):
    assert address(text, "--fleet") == read
