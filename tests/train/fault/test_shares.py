"""Whoever is there, the worlds of an island take each of its samples once."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.train.fault.fleet import job_for

from crore.plan.request import LostWorlds
from crore.train.fault.seat import Seat
from crore.train.fault.shares import share_of
from crore.train.peers import Alone, Share
from crore.train.place import Place

COUNTS = st.integers(1, 9)


def shares_of(
    *, worlds: int, islands: int, size: int, first: int, samples: int, unit: int,
    equal: bool = False, lost: LostWorlds = "keep-batch", island: int = 0,
) -> list[Share]:  # fmt: skip
    """Return the shares of the `size` worlds that are there on an island."""
    seats = [
        Seat(world=island * worlds + k, worlds=worlds, island=island, islands=islands, lost=lost)
        for k in range(size)
    ]
    return [
        share_of(seat, place, size, first, samples, unit, equal=equal)
        for place, seat in enumerate(seats)
    ]


def taken_by(shares: list[Share]) -> list[int]:
    return [k for it in shares for k in range(it.first, it.first + it.samples)]


@given(
    worlds=COUNTS, islands=st.integers(1, 4), size=COUNTS, first=st.integers(0, 1000),
    own=st.integers(1, 70), unit=st.integers(1, 8), equal=st.booleans(),
)  # fmt: skip
def test_those_that_are_there_share_the_batch_whatever_is_lost(
    worlds, islands, size, first, own, unit, equal
):
    samples, everyone = own * islands, []
    for island in range(islands):
        shares = shares_of(
            worlds=worlds, islands=islands, size=size, first=first, samples=samples, unit=unit,
            equal=equal, island=island,
        )  # fmt: skip
        everyone += taken_by(shares)
        start = first + island * own
        assert taken_by(shares) == list(range(start, start + own))
        assert {(it.whole, it.taken, it.lr) for it in shares} == {(own, samples, 1.0)}
        for place, it in enumerate(shares):
            assert it.rows % unit == 0
            assert it.rows >= it.samples
            if place >= worlds:
                assert it.samples == it.rows == 0
        active = [it.rows for it in shares[:worlds]]
        assert max(active) - min(active) <= (0 if equal else unit)
        # No more is run than fills up the last unit, or the equal parts.
        least = math.ceil(own / unit)
        most = math.ceil(least / len(active)) * len(active) if equal else least
        assert sum(active) == most * unit
    assert everyone == list(range(first, first + samples))


@given(
    worlds=COUNTS, islands=st.integers(1, 4), size=COUNTS, first=st.integers(0, 1000),
    own=st.integers(1, 70), unit=st.integers(1, 8), equal=st.booleans(),
)  # fmt: skip
def test_at_a_lower_rate_each_keeps_its_planned_part(
    worlds, islands, size, first, own, unit, equal
):
    planned = math.ceil(math.ceil(own / unit) / worlds) * unit
    taken = set()
    for island in range(islands):
        shares = shares_of(
            worlds=worlds, islands=islands, size=size, first=first, samples=own * islands,
            unit=unit, equal=equal, lost="scale-lr", island=island,
        )  # fmt: skip
        trained = taken_by(shares)
        whole = min(own, planned * min(size, worlds))
        assert len(set(trained)) == len(trained) == whole
        assert {it.rows for it in shares[:worlds]} == {planned}
        assert {it.rows for it in shares[worlds:]} <= {0}
        assert {it.whole for it in shares} == {whole}
        for it in shares:
            assert it.samples <= it.rows
            assert it.lr == pytest.approx(math.sqrt(whole / own))
        taken |= {it.taken for it in shares}
    assert len(taken) == 1


@given(
    worlds=COUNTS, islands=st.integers(1, 4), own=st.integers(1, 70), unit=st.integers(1, 8),
    there=st.lists(st.lists(COUNTS, min_size=4, max_size=4), min_size=1, max_size=6),
    lost=st.sampled_from(["keep-batch", "scale-lr"]),
)  # fmt: skip
def test_no_sample_is_taken_twice_in_a_run_whatever_islands_lose(
    worlds, islands, own, unit, there, lost
):
    """Each step of `there`: how many worlds each island has."""
    at, trained = [0] * islands, []
    for sizes in there:
        for island in range(islands):
            shares = shares_of(
                worlds=worlds, islands=islands, size=sizes[island], first=at[island],
                samples=own * islands, unit=unit, lost=lost, island=island,
            )  # fmt: skip
            trained += taken_by(shares)
            at[island] += shares[0].taken
    assert len(set(trained)) == len(trained)
    assert len(set(at)) == 1
    if lost == "keep-batch":
        assert sorted(trained) == list(range(own * islands * len(there)))


@given(worlds=st.integers(1, 6), per=st.integers(1, 5), gone=st.integers(0, 5))
def test_on_one_island_a_lower_rate_leaves_no_sample_out(worlds, per, gone):
    own, at, trained = worlds * per, 0, []
    for size in (worlds, max(worlds - gone, 1), worlds):
        shares = shares_of(
            worlds=worlds, islands=1, size=size, first=at, samples=own, unit=1, lost="scale-lr"
        )
        trained += taken_by(shares)
        at += shares[0].taken
    assert trained == list(range(at))


def test_three_of_four_worlds_at_a_lower_rate():
    shares = shares_of(worlds=4, islands=1, size=3, first=100, samples=32, unit=2, lost="scale-lr")
    assert [(it.first, it.samples, it.rows) for it in shares] == [
        (100, 8, 8), (108, 8, 8), (116, 8, 8),
    ]  # fmt: skip
    assert {(it.whole, it.taken) for it in shares} == {(24, 24)}
    assert shares[0].lr == pytest.approx(math.sqrt(3 / 4))


def test_three_of_four_worlds_with_the_whole_batch():
    shares = shares_of(worlds=4, islands=1, size=3, first=100, samples=32, unit=2)
    assert [(it.first, it.samples) for it in shares] == [(100, 12), (112, 10), (122, 10)]
    ends = [it.first + it.samples for it in shares]
    assert all(end == it.first for (end, it) in zip(ends, shares[1:], strict=False))
    assert all(a < b for a, b in pairwise(ends))


def test_a_spare_takes_a_seat_as_soon_as_one_is_free():
    shares = shares_of(worlds=2, islands=1, size=3, first=0, samples=8, unit=1)
    assert [it.samples for it in shares] == [4, 4, 0]
    seat = Seat(world=2, worlds=2)
    assert seat.spare
    assert share_of(seat, 1, 2, 0, 8, 1, equal=False).samples == 4


def test_a_world_alone_takes_its_islands_part():
    seen = [Alone(world, world, 3).share(9, 12, 2, equal=False) for world in range(3)]
    assert [(it.first, it.samples, it.rows) for it in seen] == [(9, 4, 4), (13, 4, 4), (17, 4, 4)]
    assert {(it.whole, it.taken, it.lr) for it in seen} == {(4, 12, 1.0)}


@pytest.mark.parametrize(
    ("islands", "lost", "makes_up"),
    [(1, "keep-batch", False), (3, "keep-batch", True), (3, "scale-lr", False)],
)
def test_islands_that_keep_the_batch_make_up_for_what_is_lost(tmp_path, islands, lost, makes_up):
    """Such a run is as long as its samples; another as its steps."""
    seat = Seat(world=0, worlds=2, islands=islands, lost=lost)
    assert seat.makes_up == makes_up
    made = replace(job_for(tmp_path, steps=10, batch=6), seat=seat)
    place = Place(step=9, samples=8 * 6 + 3)
    assert made.done(place) == (8.5 if makes_up else 9)
    assert replace(made, seat=None).done(place) == 9
