"""One GPU's groups cost the same in any fleet; a real store and a real lighthouse are measured."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import torch.distributed as dist

from crore.errors import InputError
from crore.model.split import Split
from crore.rehearse import crowd, lighthouse, rendezvous, startup
from crore.rehearse.place import Fleet, Place

SPLIT = Split(pp=2, dp_replicate=2, dp_shard=2, cp=2, tp=4, ep=4)
NO_TORCHFT = importlib.util.find_spec("torchft") is None
needs_torchft = pytest.mark.skipif(NO_TORCHFT, reason="needs the extra `ft`: torchft")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")


@pytest.mark.parametrize(("islands", "worlds"), [(1, 1), (3, 10), (20, 156_251)])
def test_a_gpu_has_the_groups_of_its_place(islands, worlds):
    fleet = Fleet(islands=islands, worlds=worlds, ranks=SPLIT.ranks)
    for gpu in (0, fleet.gpus // 2, fleet.gpus - 1):
        with startup.seated(fleet, gpu, SPLIT, experts=True, tied=True) as seat:
            place, above = seat.place, seat.above
            assert (seat.world.rank, seat.world.split.ranks) == (place.rank, fleet.ranks)
            quorum, outer = fleet.quorum(place), fleet.outer(place)
            assert (above.quorum.rank(), above.quorum.size()) == (quorum.index(gpu), len(quorum))
            assert (above.outer.rank(), above.outer.size()) == (place.island, len(outer))


def test_the_groups_above_a_world_are_not_in_its_registry():
    fleet = Fleet(islands=20, worlds=156_251, ranks=SPLIT.ranks)
    with startup.seated(fleet, 7_654_321, SPLIT) as seat:
        ours = (seat.above.quorum, seat.above.outer)
        known = dist.distributed_c10d._world.pg_map
        assert not set(ours) & set(known)
        before = len(known)
        startup.groups_above(fleet, seat.place)
        assert len(known) == before
        for group in ours:
            dist.all_reduce(torch.zeros(2), group=group)
    assert not dist.is_initialized()


def test_what_is_made_does_not_depend_on_how_many_worlds_and_islands_there_are():
    made = []
    for islands, worlds in ((1, 1), (20, 156_251)):
        fleet = Fleet(islands=islands, worlds=worlds, ranks=SPLIT.ranks)
        with startup.seated(fleet, fleet.gpus - 1, SPLIT, experts=True, tied=True):
            made.append(len(dist.distributed_c10d._world.pg_map))
    assert made[0] == made[1]


def test_a_gpu_that_the_fleet_does_not_have_is_refused():
    fleet = Fleet(islands=1, worlds=2, ranks=SPLIT.ranks)
    with (
        pytest.raises(InputError, match=r"0 to 127.*128"),
        startup.seated(fleet, 128, SPLIT),
    ):
        pass
    assert not dist.is_initialized()


def test_the_cost_of_a_start_is_counted():
    fleet = Fleet(islands=2, worlds=4, ranks=SPLIT.ranks)
    cost = startup.start_cost(fleet, 100, SPLIT)
    assert cost.gpus == fleet.gpus
    assert cost.cpu_s > cost.above_cpu_s > 0
    assert cost.peak_bytes > 1e8  # torch alone


def test_ranks_meet_at_a_store_and_each_phase_has_its_cost():
    said: list[str] = []
    costs = rendezvous.meeting(48, everyone=True, told=said.append)
    assert list(costs) == ["connect", "publish", "read", "barrier", "read all"]
    assert len(said) == len(costs)
    assert costs["read"].results == (len(rendezvous.ADDRESS),) * 48
    assert costs["read all"].results == (48 * len(rendezvous.ADDRESS),) * 48
    assert all(cost.server_cpu_s > 0 for cost in costs.values())


def test_who_is_left_out_does_nothing():
    with crowd.Crowd(rendezvous.serve, rendezvous.join, 6, processes=2) as six:
        six.run(None)
        six.run(rendezvous.publish, without=range(1, 6))
        assert six.run(rendezvous.read_first, without=(0, 3)).results == (128,) * 4


def test_what_a_client_raises_ends_the_crowd_and_is_told():
    with crowd.Crowd(rendezvous.serve, rendezvous.join, 3, processes=2) as three:
        three.run(None)
        with pytest.raises(RuntimeError, match=r"AttributeError.*heartbeat"):
            three.run(lighthouse.heartbeat)  # a store has none
        assert not any(process.is_alive() for process in three._started)


def test_a_process_that_ends_is_told():
    with crowd.Crowd(rendezvous.serve, rendezvous.join, 3, processes=2) as three:
        three.run(None)
        three._started[-1].kill()
        with pytest.raises(RuntimeError, match="has ended"):
            three.run(rendezvous.publish)


@pytest.mark.parametrize("clients", [0, crowd.MOST + 1])
def test_a_crowd_has_as_many_clients_as_a_process_has_sockets(clients):
    with pytest.raises(InputError, match=f"{clients:,}"):
        crowd.Crowd(rendezvous.serve, rendezvous.join, clients)


@needs_torchft
def test_a_lighthouse_tells_every_world_who_is_there_when_one_dies_and_comes_back():
    told = lighthouse.watch(64, dead_after_s=6.0)  # a busy machine may say nothing for a while
    seen = {name: cost.results for name, cost in told.phases.items()}
    assert seen["first"] == seen["again"] == seen["return"] == (64,) * 64
    assert seen["bereaved"] == seen["steady"] == (63,) * 63
    assert 0 < told.heartbeat_cpu_s() < told.phases["first"].server_cpu_s


@needs_torchft
def test_a_lighthouse_is_not_watched_with_two():
    with pytest.raises(InputError, match="3 members or more, not 2"):
        lighthouse.watch(2)


def test_a_lighthouse_without_torchft_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchft.coordination", None)
    with pytest.raises(InputError, match=r"crore\[ft\]"):
        lighthouse.watch(8)


def test_places_of_uneven_islands_are_those_of_the_fleet():
    fleet = Fleet(islands=3, worlds=10, ranks=64)
    above = startup.groups_above(fleet, Place(island=2, world=2, rank=5))
    assert (above.quorum.size(), above.outer.size()) == (3, 3)
    assert above.quorum.group_name == "quorum of island 2"
