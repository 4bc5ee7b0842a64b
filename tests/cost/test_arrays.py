"""Records of floats become records of columns, name by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crore.cost.arrays import present, stack_columns


@dataclass(frozen=True)
class Inner:
    size: float


@dataclass(frozen=True)
class Outer:
    inner: Inner
    flag: bool
    count: int


def test_a_nested_record_is_stacked_in_turn():
    stacked = stack_columns([Outer(Inner(1.5), True, 2), Outer(Inner(2.5), False, 3)])
    assert np.array_equal(stacked.inner.size, [1.5, 2.5])
    assert np.array_equal(stacked.flag, [True, False])
    assert np.array_equal(stacked.count, [2.0, 3.0])
    assert np.asarray(stacked.count).dtype == np.float64


def test_present_is_any_entry_that_is_not_zero():
    assert present(np.array([0.0, 1.0]))
    assert present(1.0)
    assert not present(np.zeros(3))
    assert not present(False)
