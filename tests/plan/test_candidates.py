"""Columns: selecting, repeating, joining and compacting leave every value where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from crore.cost.layout import Layout
from crore.plan.candidates import Candidates, compact, distinct, joined, repeated, size, take

THREE = Candidates(
    layout=Layout(tp=np.array([1.0, 2.0, 4.0]), pp=np.array([2.0, 2.0, 2.0])),
    islands=1.0, worlds=np.array([5.0, 6.0, 7.0]), batch=np.array([8.0, 8.0, 9.0]),
)  # fmt: skip


def values(column):
    return list(np.asarray(column))


def test_taking_selects_columns_of_nested_records_and_leaves_numbers():
    two = take(THREE, np.array([2, 0]))
    assert values(two.layout.tp) == [4, 1]
    assert values(two.worlds) == [7, 5]
    assert two.islands == 1.0
    assert size(two) == 2
    assert float(take(THREE, 1).layout.tp) == 2
    assert values(take(THREE, np.array([True, False, True])).batch) == [8, 9]


def test_each_candidate_is_repeated_in_place():
    spread = repeated(THREE, np.array([2, 0, 1]))
    assert values(spread.layout.tp) == [1, 1, 4]
    assert values(spread.worlds) == [5, 5, 7]


def test_joined_records_keep_their_order_and_numbers_become_columns():
    both = joined([take(THREE, slice(0, 1)), THREE], [1, 3])
    assert values(both.layout.tp) == [1, 1, 2, 4]
    assert values(both.islands) == [1, 1, 1, 1]
    assert values(both.layout.ep) == [1, 1, 1, 1]


def test_a_column_that_is_the_same_everywhere_becomes_a_number():
    small = compact(THREE)
    assert small.layout.pp == 2.0
    assert isinstance(small.layout.pp, float)
    assert values(small.layout.tp) == [1, 2, 4]
    assert size(compact(take(THREE, slice(0, 0)))) == 0


@pytest.mark.parametrize("largest", [1, 50, 10**7])
def test_distinct_values_rise_and_tell_where_each_entry_is(largest):
    column = np.random.default_rng(largest).integers(0, largest, 300).astype(float)
    found, where = distinct(column)
    assert list(found) == sorted(set(column))
    assert np.array_equal(found[where], column)
    assert distinct(column[:0])[0].size == distinct(column[:0])[1].size == 0
