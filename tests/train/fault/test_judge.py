"""What worlds conclude from each other's checksums and times: the same on all of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.train.fault.judge import LEAST_S, MOST, SLOW, SLOW_STEPS, Judge, Opinion, minority

WELL = [7, 7, 7]


def opinions(judges, checksums, busy_s) -> list[Opinion]:
    """Tell all worlds the numbers of a step."""
    return [judge.hear(range(len(judges)), checksums, busy_s) for judge in judges]


def test_the_world_whose_weights_differ_heals_and_all_take_the_step_again():
    heard = opinions([Judge(k) for k in range(3)], [7, 8, 7], [1.0] * 3)
    assert [it.heal for it in heard] == [False, True, False]
    assert all(it.again and not it.torn and not it.leave for it in heard)
    assert {it.reason for it in heard} == {
        "the weights of world 1 differ from the others': it takes theirs"
    }


def test_several_that_differ_are_all_named():
    heard = Judge(4).hear([2, 4, 5, 9, 11], [1, 3, 1, 2, 1], [1.0] * 5)
    assert heard.heal
    assert "world 4, 9 differ" in heard.reason


@pytest.mark.parametrize("sums", [[1, 2], [1, 2, 3], [1, 1, 2, 2], [1, 1, 2, 2, 3]])
def test_without_a_majority_nobody_is_right(sums):
    judges = [Judge(k) for k in range(len(sums))]
    for heard in opinions(judges, sums, [1.0] * len(sums)):
        assert heard.again
        assert heard.torn
        assert not heard.heal
        assert not heard.leave


def test_a_tie_is_held_against_nobody():
    judges = [Judge(k) for k in range(3)]
    opinions(judges, [1, 2, 3], [1.0] * 3)
    heard = opinions(judges, [8, 7, 7], [1.0] * 3)
    assert heard[0].heal
    assert not heard[0].leave


def test_a_world_that_is_wrong_twice_leaves():
    judges = [Judge(k) for k in range(3)]
    assert [it.leave for it in opinions(judges, [8, 7, 7], [1.0] * 3)] == [False] * 3
    assert opinions(judges, WELL, [1.0] * 3) == [Opinion()] * 3
    again = opinions(judges, [9, 7, 7], [1.0] * 3)
    assert [it.leave for it in again] == [True, False, False]
    assert [it.heal for it in again] == [True, False, False]


def test_a_world_wrong_once_does_not_make_another_leave():
    judges = [Judge(k) for k in range(3)]
    opinions(judges, [8, 7, 7], [1.0] * 3)
    assert not any(it.leave for it in opinions(judges, [7, 8, 7], [1.0] * 3))


@given(sums=st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_the_minority_is_all_but_the_most_frequent(sums):
    worlds = [10 + k for k in range(len(sums))]
    odd, counts = minority(worlds, sums), Counter(sums)
    most = max(counts.values())
    ahead = [value for value, n in counts.items() if n == most]
    if len(counts) == 1:
        assert odd == ()
    elif len(ahead) > 1:
        assert odd == tuple(worlds)
    else:
        right = {w for w, one in zip(worlds, sums, strict=True) if one == ahead[0]}
        assert set(odd) == set(worlds) - right


def left_after(factors, steps=3 * SLOW_STEPS):
    """Return the step at which the first of three worlds leaves; 0 if it stays.

    `factors` are how many times slower it is, over and over.
    """
    judges = [Judge(k) for k in range(3)]
    for step in range(steps):
        heard = opinions(judges, WELL, [factors[step % len(factors)], 1.0, 1.0])
        assert not any(it.again for it in heard)
        assert not heard[1].leave
        assert not heard[2].leave
        if heard[0].leave:
            assert len({it.reason for it in heard}) == 1
            return step + 1
    return 0


@pytest.mark.parametrize(("factor", "steps"), [(1.01 * SLOW, SLOW_STEPS), (10.0, 7), (99.0, 4)])
def test_a_slow_world_leaves_the_sooner_the_slower_it_is(factor, steps):
    assert left_after([factor]) == steps
    assert left_after([0.99 * SLOW]) == 0


def test_it_is_said_how_slow_it_is():
    judges = [Judge(k) for k in range(3)]
    heard = [opinions(judges, WELL, [1.0, 1.0, 9.0]) for _ in range(8)]
    assert {it.reason for it in heard[-1]} == {"world 2 is 9 times slower: it leaves"}
    assert heard[:-1] == [[Opinion()] * 3] * 7


def test_a_hiccup_is_no_slowness_however_long_it_is():
    assert left_after([1e6] + [1.0] * SLOW_STEPS) == 0
    assert left_after([MOST, 1.0, 1.0, MOST, 1.0, MOST] + [1.0] * SLOW_STEPS) == 0


@pytest.mark.parametrize("shift", range(4))
def test_a_world_that_stops_in_one_step_of_four_leaves(shift):
    """As one does whose steps are shorter than its stops are apart."""
    factors = [1.0, 1.0, 1.0, 1.0]
    factors[shift] = 25.0
    assert 0 < left_after(factors) <= SLOW_STEPS


def test_one_world_leaves_at_a_time():
    judges, late = [Judge(k) for k in range(5)], [9.0, 1.0, 1.0, 1.0, 9.0]
    told = [opinions(judges, [7] * 5, late) for _ in range(9)]
    assert [sum(it.leave for it in heard) for heard in told] == [0] * 7 + [1, 1]
    assert told[-2][0].leave
    assert told[-1][4].leave


@given(
    times=st.lists(st.floats(0.0, 0.99 * LEAST_S / SLOW_STEPS), min_size=2, max_size=6),
    steps=st.integers(1, 3 * SLOW_STEPS),
)
def test_nobody_is_slow_by_what_is_noise(times, steps):
    """Steps of milliseconds differ tenfold for no reason."""
    judges = [Judge(k) for k in range(len(times))]
    for _ in range(steps):
        assert opinions(judges, [7] * len(times), times) == [Opinion()] * len(times)


@given(usual=st.floats(0.1, 1000), factors=st.lists(st.floats(1, 3.9), min_size=2, max_size=6))
def test_nobody_is_slow_within_four_times_the_others(usual, factors):
    judges = [Judge(k) for k in range(len(factors))]
    for _ in range(2 * SLOW_STEPS):
        heard = opinions(judges, [7] * len(factors), [usual * f for f in factors])
        assert heard == [Opinion()] * len(factors)


def test_a_spare_that_does_nothing_is_neither_slow_nor_a_measure():
    judges = [Judge(k) for k in range(3)]
    for _ in range(2 * SLOW_STEPS):
        assert opinions(judges, WELL, [1.0, 1.0, 0.0]) == [Opinion()] * 3
    for _ in range(2 * SLOW_STEPS):
        assert opinions(judges, WELL, [1.0, 0.0, 0.0]) == [Opinion()] * 3


def test_a_world_alone_has_nobody_to_be_held_against():
    judge = Judge(3)
    for busy_s in [1.0] * 2 + [50.0] * SLOW_STEPS:
        assert judge.hear([3], [1], [busy_s]) == Opinion()
