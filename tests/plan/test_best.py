"""The K best of their families: ties, thresholds and what counts as another plan."""

from __future__ import annotations

import numpy as np

from crore.cost.layout import Layout
from crore.plan.best import Best, family_of, leading
from crore.plan.candidates import Candidates, take


def candidates(**axes):
    """Return candidates with these layout columns; `islands` and `worlds` are their own."""
    count = len(next(iter(axes.values())))
    columns = {name: np.array(values, dtype=float) for name, values in axes.items()}
    one = np.ones(count)
    islands, worlds = columns.pop("islands", one), columns.pop("worlds", one)
    layout = Layout(**{"tp": one, **columns})
    return Candidates(layout=layout, islands=islands, worlds=worlds, batch=one)


def added(best, times, **axes):
    times = np.array(times, dtype=float)
    best.add(candidates(**axes), times, times, times)
    return [(it.run_s, family_of(it.candidate)[0]) for it in best.ranked()]


def test_the_fastest_of_each_family_is_kept_in_order():
    best = Best(top=2)
    assert added(best, [3, 1, 2, 4], tp=[1, 2, 2, 4]) == [(1, 2), (3, 1)]
    assert added(best, [2.5], tp=[8]) == [(1, 2), (2.5, 8)]


def test_the_threshold_is_the_ceiling_until_there_are_enough_families():
    best = Best(top=2, ceiling_s=10)
    assert best.threshold_s == 10
    added(best, [1, 2], tp=[1, 1])
    assert best.threshold_s == 10
    added(best, [5], tp=[2])
    assert best.threshold_s == 5
    added(best, [7], tp=[4])
    assert best.threshold_s == 5


def test_nothing_above_the_ceiling_enters():
    assert added(Best(top=1, ceiling_s=2), [3], tp=[1]) == []
    assert added(Best(top=1, ceiling_s=2), [2], tp=[1]) == [(2, 1)]


def test_a_family_that_was_pushed_out_may_come_back_faster():
    best = Best(top=1)
    added(best, [2], tp=[1])
    added(best, [1], tp=[2])
    assert added(best, [0.5], tp=[1]) == [(0.5, 1)]


def test_tuning_alone_makes_no_other_plan_and_full_sharding_or_islands_do():
    tuned = candidates(micro_batch=[1, 2], vpp=[1, 4], zero=[1, 2])
    assert family_of(take(tuned, 0)) == family_of(take(tuned, 1))
    for name, values in {"zero": [1, 3], "islands": [1, 2], "ep": [1, 8], "cp": [1, 2]}.items():
        two = candidates(**{name: values})
        assert family_of(take(two, 0)) != family_of(take(two, 1))


def test_ties_are_settled_by_the_smaller_value_in_any_order():
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        best = Best(top=1)
        for index in order:
            added(best, [1], tp=[1], micro_batch=[[2, 1, 1][index]], vpp=[[1, 2, 3][index]])
        (it,) = best.ranked()
        assert (float(it.candidate.layout.micro_batch), float(it.candidate.layout.vpp)) == (1, 2)
    together = Best(top=1)
    added(together, [1, 1, 1], tp=[1, 1, 1], micro_batch=[2, 1, 1], vpp=[1, 2, 3])
    assert float(together.ranked()[0].candidate.layout.vpp) == 2


def test_only_what_may_be_the_fastest_of_its_family_leads():
    families = candidates(tp=[1, 1, 1, 2, 2], islands=[1, 1, 1, 1, 1])
    least, known = np.array([1.0, 3.0, 2.0, 9.0, 5.0]), np.array([2.0, 3.0, 4.0, 9.0, np.inf])
    assert list(leading(families, least, known, 0.0)) == [True, False, True, True, True]
    assert list(leading(families, least, known, 0.6)) == [True] * 5
    assert not leading(candidates(tp=[]), least[:0], known[:0], 0.0).size
