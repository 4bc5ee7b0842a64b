"""When training skips, rolls back and stops."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.train.health import GO_ON, Health, Limits

bad_pairs = st.sampled_from([(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])


def fed(health, losses, first=0):
    return [health.judge(first + i, loss, 1.0) for i, loss in enumerate(losses)]


def actions(verdicts):
    return [v.action for v in verdicts]


def flat(count, level=3.0):
    return [level + 0.01 * (i % 5) for i in range(count)]


@given(
    st.floats(0.5, 20),
    st.floats(0, 0.02),
    st.lists(st.floats(-0.05, 0.05), min_size=1, max_size=300),
)
def test_a_falling_loss_with_noise_never_rolls_back(start, rate, noise):
    losses = [start * math.exp(-rate * i) * (1 + n) for i, n in enumerate(noise)]
    assert set(actions(fed(Health(), losses))) == {"go on"}


@given(st.lists(bad_pairs, min_size=1, max_size=80), st.integers(1, 5), st.integers(0, 4))
def test_nothing_finite_stops_the_run_after_a_bounded_number_of_steps(pairs, skips, rollbacks):
    health = Health(Limits(skips=skips, rollbacks=rollbacks))
    taken = [health.judge(i, *pair).action for i, pair in enumerate(pairs)]
    bound = skips * (rollbacks + 1)
    assert ("stop" in taken) == (len(pairs) >= bound)
    if "stop" in taken:
        assert taken.index("stop") == bound - 1
        assert taken[:bound].count("roll back") == rollbacks


def test_a_step_that_is_not_finite_is_skipped_and_three_roll_back():
    health = Health()
    verdicts = fed(health, [3.0, math.nan, 3.0, math.nan, math.nan, math.nan])
    assert actions(verdicts) == ["go on", "skip", "go on", "skip", "skip", "roll back"]
    assert verdicts[1].reason == (
        "step 1: loss nan, gradient norm 1: update skipped (1 in a row, 3 roll back)"
    )
    assert verdicts[5].reason == (
        "step 5: loss nan, gradient norm 1, 3 steps in a row: rolling back "
        "(1 of 3 within 1000 steps)"
    )


def test_a_single_spike_passes_and_three_roll_back():
    health = Health()
    losses = [*flat(50), 9.0, *flat(5), 9.0, 8.0, 7.0]
    verdicts = fed(health, losses)
    assert [i for i, v in enumerate(verdicts) if v.reason] == [50, 56, 57, 58]
    assert actions(verdicts)[-3:] == ["go on", "go on", "roll back"]
    assert verdicts[-1].reason == (
        "step 58: loss 7 is above 3.382 (the median of 55 steps is 3.02), 3 steps in a row: "
        "rolling back (1 of 3 within 1000 steps)"
    )


def test_no_spike_before_enough_is_known():
    assert set(actions(fed(Health(), [*flat(19), 50, 60, 70]))) == {"go on"}


def test_a_run_that_spikes_at_the_same_step_again_and_again_stops():
    health, taken = Health(), []
    kept = health.facts()
    for _ in range(4):
        health.load_facts(kept)  # as a roll-back that restores the checkpoint may do
        taken.append(fed(health, [*flat(30), 9.0, 9.0, 9.0], first=100)[-1].action)
    assert taken == ["roll back"] * 3 + ["stop"]


def test_old_roll_backs_are_forgotten():
    health = Health(Limits(skips=1, rollbacks=1, span_steps=10))
    steps = (0, 11, 22, 30)
    assert [health.judge(s, math.nan, 1).action for s in steps] == ["roll back"] * 3 + ["stop"]


def test_a_stop_says_why_in_one_line():
    health = Health(Limits(skips=1, rollbacks=0))
    reason = health.judge(123_456, math.nan, math.inf).reason
    assert reason.startswith("step 123456: loss nan, gradient norm inf, 1 steps in a row, after 0")
    assert len(reason) <= 230


@given(st.lists(st.one_of(st.floats(0, 10), st.just(math.nan)), max_size=120), st.integers(0, 119))
def test_a_state_that_went_through_json_judges_the_same(losses, cut):
    straight, first, second = Health(), Health(), Health()
    expected = fed(straight, losses)
    fed(first, losses[:cut])
    second.load_facts(json.loads(json.dumps(first.facts(), allow_nan=False)))
    assert fed(second, losses[cut:], first=cut) == expected[cut:]


@pytest.mark.parametrize("loss", [0.0, -1.0, 1e-30])
def test_a_loss_at_or_below_zero_is_no_trouble(loss):
    assert fed(Health(), [loss] * 50)[-1] == GO_ON
