"""Who is left out of a round: what is not finite, too large or astray, and nobody else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crore.train.islands.gate import Gate, cosines_of, nobody, norms_of

SEED = 5


def vectors(members, agreement=0.5, n=4000, seed=SEED):
    """Return members' vectors [M, n] of norm 1, with about `agreement` as cosine of any two."""
    draw = torch.randn(members + 1, n, generator=torch.Generator().manual_seed(seed)).double()
    draw /= draw.norm(dim=1, keepdim=True)
    mixed = agreement**0.5 * draw[:1] + (1 - agreement) ** 0.5 * draw[1:]
    return mixed / mixed.norm(dim=1, keepdim=True)


def judged(rows, weights=None, gate=None):
    weights = torch.ones(len(rows)) if weights is None else torch.tensor(weights)
    return (gate or Gate()).judge(rows @ rows.T, weights.double())


def settled(members=2, norm=1.0, rounds=5, **how):
    """Return a gate that has seen rounds of members of one norm."""
    gate = Gate()
    for seed in range(rounds):
        rows = vectors(members, seed=100 + seed, **how) * norm
        ones = torch.ones(members).double()
        gate.keep(nobody(rows @ rows.T, ones), ones.tolist())
    return gate


def test_norms_and_cosines_come_from_the_products_alone():
    rows, weights = vectors(4), torch.tensor([1.0, 2.0, 0.0, 4.0]).double()
    rows[1] *= 3
    mean = (weights[:, None] * rows)[1:].sum(0)
    expected = float(torch.nn.functional.cosine_similarity(rows[0], mean, dim=0))
    assert cosines_of(rows @ rows.T, weights)[0] == pytest.approx(expected)
    assert norms_of(rows @ rows.T) == pytest.approx(rows.norm(dim=1).tolist())


def test_alone_there_is_no_cosine_and_nobody_is_left_out():
    verdict = judged(vectors(1) * 1e6)
    assert math.isnan(verdict.cosines[0])
    assert verdict.fenced == (False,)


@pytest.mark.parametrize("members", [2, 3, 8])
def test_members_alike_all_count(members):
    assert not any(judged(vectors(members)).fenced)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_what_is_not_finite_is_left_out(members, wrong):
    rows = vectors(members)
    rows[0, 7] = wrong
    verdict = judged(rows)
    assert verdict.fenced == (True,) + (False,) * (members - 1)
    assert "not finite" in verdict.reasons[0]


@pytest.mark.parametrize("members", [2, 3, 8])
def test_far_too_large_is_left_out_at_once(members):
    rows = vectors(members)
    rows[-1] *= 6
    assert judged(rows).fenced == (False,) * (members - 1) + (True,)


def test_two_that_grow_together_both_count_and_one_alone_does_not():
    gate = settled(norm=1.0)
    both = vectors(2) * 20
    assert not any(judged(both, gate=gate).fenced)
    both[0] /= 20
    assert judged(both, gate=gate).fenced == (False, True)


def test_of_two_a_small_one_does_not_condemn_the_other():
    """An island that had little time has a small norm: the other is as usual."""
    rows = vectors(2)
    rows[0] /= 50
    assert judged(rows).fenced == (False, True)
    assert judged(rows, gate=settled()).fenced == (False, False)


def test_the_opposite_direction_is_left_out_and_the_rest_stays():
    rows = vectors(5)
    rows[2] *= -1
    verdict = judged(rows, gate=settled(5))
    assert verdict.fenced == (False, False, True, False, False)
    assert "cosine" in verdict.reasons[2]


def test_noise_of_the_usual_size_is_left_out_where_the_others_agree():
    rows = vectors(4)
    rows[3] = vectors(1, agreement=0.0, seed=9)[0]
    assert judged(rows, gate=settled(4)).fenced == (False, False, False, True)


def test_a_direction_is_not_wrong_where_directions_differ_widely_or_nothing_is_known():
    rows = vectors(4)
    rows[3] = vectors(1, agreement=0.0, seed=9)[0]
    assert not any(judged(rows).fenced)
    assert not any(judged(rows, gate=settled(4, n=12, rounds=20)).fenced)


def test_where_nobody_agrees_no_direction_is_wrong():
    rows = vectors(4, agreement=0.001)
    rows[3] *= -1
    assert not any(judged(rows, gate=settled(4, agreement=0.001)).fenced)


def test_with_two_members_neither_direction_is_wrong():
    rows = vectors(2)
    rows[1] *= -1
    assert not any(judged(rows).fenced)


def test_a_member_without_weight_is_not_judged_and_judges_nobody():
    rows = vectors(3)
    rows[0] = torch.nan
    assert judged(rows, [0.0, 1.0, 1.0]).fenced == (False, False, False)


def test_judging_changes_nothing_and_a_history_moves_to_another_gate():
    gate = settled(3, norm=2.0)
    before = gate.facts()
    judged(vectors(3) * 100, gate=gate)
    assert gate.facts() == before
    other = Gate()
    other.load_facts(before)
    rows = vectors(2) * 2
    rows[0] /= 50
    assert judged(rows, gate=other) == judged(rows, gate=gate)
    assert not any(judged(rows, gate=other).fenced)


def test_what_was_left_out_does_not_become_usual():
    gate, rows = settled(), vectors(2)
    rows[0] *= 100
    verdict = judged(rows, gate=gate)
    for _ in range(50):
        gate.keep(verdict, (1.0, 1.0))
    assert max(gate.facts()["norms"]) == pytest.approx(1.0)


def test_a_member_that_did_not_move_is_no_measure_and_not_astray():
    rows = vectors(4)
    rows[0] = 0.0
    gate = settled(4)
    verdict = judged(rows, gate=gate)
    assert not any(verdict.fenced)
    gate.keep(verdict, (1.0,) * 4)
    assert not any(judged(rows, gate=gate).fenced)


def flipped(value, bit):
    """Return a float32 with one bit of its 32 turned, 31 the sign, 30 to 23 the exponent."""
    turned = np.array(value, dtype=np.float32).view(np.uint32) ^ np.uint32(1 << bit)
    return float(turned.view(np.float32))


@pytest.mark.parametrize("members", [2, 4])
@pytest.mark.parametrize("value", [3e-2, 1e-3, -2e-5])
def test_a_flip_of_the_highest_exponent_bit_is_caught(members, value):
    """Below 2 that bit is 0; set, the value is above 1e30."""
    rows = vectors(members) * 0.5
    rows[-1, 3] = flipped(value, 30)
    assert judged(rows, gate=settled(members)).fenced == (False,) * (members - 1) + (True,)


@pytest.mark.parametrize("bit", [*range(23), 29, 31])
def test_flips_that_change_little_or_shrink_a_value_are_not_caught(bit):
    """A mantissa bit, the sign of one value of thousands, or an exponent bit that was set."""
    rows = vectors(4)
    rows[-1, 3] = flipped(float(rows[-1, 3]), bit)
    assert not any(judged(rows, gate=settled(4)).fenced)
