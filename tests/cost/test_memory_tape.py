"""The highest moment of a pass, written as what it makes and frees."""

from __future__ import annotations

import numpy as np

from crore.cost.memory_tape import Tape


def test_the_highest_moment_is_between_making_and_freeing():
    top = Tape().make(3.0, 2.0).free(4.0).make(3.0).free(1.0).top()
    assert (float(top.made), float(top.gradients), float(top.end)) == (5.0, 0.0, 3.0)


def test_gradients_stay_or_are_added_at_once():
    tape = Tape().gradient(4.0).make(1.0).free(1.0).gradient(4.0).make(2.0).free(2.0)
    stays, added = tape.top(1.0), tape.top(0.0)
    assert (float(stays.made), float(stays.gradients)) == (2.0, 8.0)
    assert (float(added.made), float(added.gradients)) == (2.0, 4.0)


def test_candidates_have_moments_of_their_own():
    top = Tape().make(np.array([5.0, 1.0])).free(np.array([5.0, 0.0])).make(2.0).top()
    assert np.asarray(top.made).tolist() == [5.0, 3.0]
    assert np.asarray(top.end).tolist() == [2.0, 3.0]
