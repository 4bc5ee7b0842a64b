"""Where a GPU of a fleet stands, and whom it meets above its world."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError
from crore.rehearse.place import Fleet, Place

FLEETS = st.tuples(
    st.integers(1, 40), st.integers(0, 5_000), st.integers(1, 100_000)
).map(lambda it: Fleet(islands=it[0], worlds=it[0] + it[1], ranks=it[2]))  # fmt: skip


@given(FLEETS, st.data())
def test_a_gpu_and_its_place_name_each_other(fleet, data):
    gpu = data.draw(st.integers(0, fleet.gpus - 1))
    place = fleet.place(gpu)
    assert fleet.gpu(place) == gpu
    assert 0 <= place.world < fleet.worlds_of(place.island)
    assert gpu in fleet.quorum(place)
    assert fleet.outer(place)[place.island] == fleet.gpu(replace(place, world=0))
    assert len(fleet.quorum(place)) == fleet.worlds_of(place.island)
    assert len(fleet.outer(place)) == fleet.islands


@given(FLEETS)
def test_islands_share_all_worlds(fleet):
    assert sum(map(fleet.worlds_of, range(fleet.islands))) == fleet.worlds


def test_1221_worlds_on_20_islands():
    fleet = Fleet(islands=20, worlds=1221, ranks=8192)
    assert fleet.gpus == 10_002_432
    assert fleet.place(7_654_321) == Place(island=15, world=18, rank=2993)
    assert len(fleet.quorum(fleet.place(0))) == 62
    assert len(fleet.quorum(fleet.place(7_654_321))) == 61


def test_a_gpu_beyond_the_fleet_is_refused():
    with pytest.raises(InputError, match="--rank is 0 to 7 in this plan, not 8"):
        Fleet(islands=1, worlds=2, ranks=4).place(8)


def test_an_island_needs_a_world():
    with pytest.raises(InputError, match="need a world each"):
        Fleet(islands=3, worlds=2, ranks=4)
