"""An outer step's settings say which fragment is due, and refuse rounds that do not fit."""

from __future__ import annotations

import pytest

from crore.errors import InputError
from crore.train.islands import Outer


def schedule(outer, steps):
    return [(s, outer.sends(s), outer.takes(s)) for s in range(1, steps + 1)
            if outer.sends(s) is not None or outer.takes(s) is not None]  # fmt: skip


def test_one_fragment_is_sent_and_taken_up_at_each_interval():
    assert schedule(Outer(interval=3), 7) == [(3, 0, 0), (6, 0, 0)]
    assert schedule(Outer(interval=1), 2) == [(1, 0, 0), (2, 0, 0)]


def test_fragments_come_in_turn_and_are_taken_up_later():
    outer = Outer(interval=6, fragments=2, overlap=2)
    assert schedule(outer, 12) == [
        (3, 0, None), (5, None, 0), (6, 1, None), (8, None, 1),
        (9, 0, None), (11, None, 0), (12, 1, None),
    ]  # fmt: skip


@pytest.mark.parametrize("outer", [Outer(), Outer(interval=12, fragments=4, overlap=2)])
def test_each_fragment_is_sent_once_an_interval(outer):
    for first in range(outer.interval, 3 * outer.interval):
        sent = [outer.sends(s) for s in range(first, first + outer.interval)]
        assert sorted(f for f in sent if f is not None) == list(range(outer.fragments))


def test_the_global_weights_are_taken_whole_unless_the_island_went_on():
    assert Outer().share == 1
    assert Outer(overlap=1).share == 0.5
    assert Outer(overlap=1, mixing=0.8).share == 0.8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bits": 3}, "bits"),
        ({"interval": 0}, "interval"),
        ({"interval": 10, "fragments": 3}, "divide"),
        ({"fragments": 0}, "fragments"),
        ({"interval": 10, "fragments": 5, "overlap": 2}, "overlap"),
        ({"overlap": -1}, "overlap"),
        ({"lr": 0.0}, "learning rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"mixing": 0.0}, "mixing"),
        ({"mixing": 1.1}, "mixing"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Outer(**wrong)
