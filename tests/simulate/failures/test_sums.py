"""Sums drawn at once are those of times drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest

from crore.simulate.failures.sums import cut_exponentials, poisson_counts, uninterrupted


def one_by_one(rng, stretches, length_s, rate):
    now = failed = 0
    while stretches:
        gap = rng.exponential(1 / rate)
        now += min(gap, length_s)
        failed += gap < length_s
        stretches -= gap >= length_s
    return now, failed


@pytest.mark.parametrize(("stretches", "length_s", "rate"), [(3, 50.0, 0.02), (200, 10.0, 0.1)])
def test_uninterrupted_stretches_take_what_trying_takes(stretches, length_s, rate):
    tried = np.array(
        [one_by_one(np.random.default_rng(k), stretches, length_s, rate) for k in range(800)]
    )
    seconds, failed = uninterrupted(
        np.random.default_rng(9), np.full(20_000, float(stretches)), length_s, rate
    )
    mean = stretches * np.expm1(rate * length_s) / rate
    for drawn, own in zip((seconds, failed), tried.T, strict=True):
        error = own.std() / np.sqrt(own.size)
        assert abs(drawn.mean() - own.mean()) < 3.5 * error
        assert drawn.std() == pytest.approx(own.std(), rel=0.08)
        for quantile in (10, 50, 90):
            near = np.percentile(own, quantile)
            assert np.percentile(drawn, quantile) == pytest.approx(near, rel=0.06, abs=1)
    assert abs(seconds.mean() - mean) < 3.5 * seconds.std() / np.sqrt(seconds.size)


def test_few_and_many_cut_times_have_one_law():
    """Sixty-four are drawn one by one, sixty-five as one normal."""
    few, many = (
        cut_exponentials(np.random.default_rng(4), np.full(40_000, n), 10.0, 0.2) / n
        for n in (64.0, 65.0)
    )
    assert few.mean() == pytest.approx(many.mean(), rel=0.003)
    assert few.std() == pytest.approx(many.std(), rel=0.02)
    assert ((few >= 0) & (few <= 10)).all()


def test_a_rate_of_nothing_cuts_evenly():
    drawn = cut_exponentials(np.random.default_rng(4), np.full(20_000, 2.0), 10.0, 1e-14)
    assert drawn.mean() == pytest.approx(10.0, rel=0.01)


def test_counts_too_large_to_count_are_their_mean():
    counts = poisson_counts(np.random.default_rng(1), np.array([0.0, 1e12, 1e200]))
    assert counts[0] == 0
    assert counts[1] == pytest.approx(1e12, rel=1e-5)
    assert counts[2] == 1e200


def test_nothing_to_do_takes_no_time():
    seconds, failed = uninterrupted(np.random.default_rng(1), np.zeros(3), 10.0, 0.1)
    assert list(seconds) == list(failed) == [0, 0, 0]
