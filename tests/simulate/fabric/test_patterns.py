"""Collectives send what their closed forms count."""

from __future__ import annotations

import numpy as np
import pytest

from crore.errors import InputError
from crore.simulate.fabric.patterns import (
    exchange_of,
    incast_of,
    permutation_of,
    phases_of,
    ring_of,
)

RANKS = np.array([5, 2, 9, 4, 7, 0, 1, 3])


@pytest.mark.parametrize(
    ("kind", "each", "messages"),
    [("ring", 2 * 7 / 8, 14), ("halving-doubling", 2 * 7 / 8, 6), ("all-to-all", 7 / 8, 7)],
)
def test_a_rank_sends_and_receives_what_the_closed_form_counts(kind, each, messages):
    sent, received, count = np.zeros(10), np.zeros(10), np.zeros(10)
    for phase in phases_of(kind, RANKS, 64.0):
        np.add.at(sent, phase.flows.source, phase.bytes * phase.repeat)
        np.add.at(received, phase.flows.target, phase.bytes * phase.repeat)
        np.add.at(count, phase.flows.source, phase.repeat)
    assert (sent[RANKS] == each * 64.0).all()
    assert (received[RANKS] == each * 64.0).all()
    assert (count[RANKS] == messages).all()
    assert sent[[6, 8]].sum() == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_permutation_is_one_cycle_and_nobody_sends_to_itself(seed):
    flows = permutation_of(RANKS, seed)
    onward = dict(zip(flows.source.tolist(), flows.target.tolist(), strict=True))
    seen = [int(RANKS[0])]
    while onward[seen[-1]] != seen[0]:
        seen.append(onward[seen[-1]])
    assert sorted(seen) == sorted(RANKS.tolist())


def test_incast_and_exchange():
    assert incast_of(RANKS).target.tolist() == [5] * 7
    assert len(exchange_of(RANKS)) == 56
    assert (exchange_of(RANKS).source != exchange_of(RANKS).target).all()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: ring_of(np.array([3])), "two ranks and more"),
        (lambda: ring_of(np.array([3, 3])), "all different"),
        (lambda: phases_of("halving-doubling", np.arange(6), 1.0), "power of two"),
    ],
)
def test_what_is_no_pattern_is_refused(asked, message):
    with pytest.raises(InputError, match=message):
        asked()
