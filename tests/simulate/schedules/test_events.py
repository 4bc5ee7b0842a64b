"""A pipeline played event by event takes what the table's closed forms say, and holds as much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.cost.pipeline import Pipeline, waiting
from crore.cost.schedules import in_flight, schedule_code
from crore.errors import InputError
from crore.simulate.schedules.events import Jitter, StageTimes, even_stages, simulate_schedule
from crore.simulate.schedules.passes import chunk_share

seconds = st.floats(0.3, 3.0)


def play(name, p, m, times, v=1, transfer_s=0.0, jitter=None):
    """Play equal stages; `times` are (F, I, W) of one whole stage and micro-batch."""
    chunks = {"zb-v": 2, "dualpipe": 2, "dualpipe-v": 2}.get(name, v)
    whole = tuple(t * chunks * chunk_share(name, chunks) for t in times)
    return simulate_schedule(name, m, even_stages(p, chunks, whole, transfer_s), jitter)


def table(name, p, m, times, v=1):
    """Return (seconds of a step, whole-stage activations in flight) of the closed forms."""
    code = float(schedule_code(name))
    forward_s, input_s, weight_s = times
    waits = waiting(Pipeline(
        code=code, pp=float(p), vpp=float(v), micro_batches=float(m), forward_s=forward_s,
        backward_s=input_s, weight_s=weight_s,
    ))  # fmt: skip
    return m * sum(times) + float(waits.bubble_s), float(
        in_flight(code, float(p), float(v), float(m))
    )


@given(p=st.integers(1, 8), m=st.integers(1, 24), times=st.tuples(seconds, seconds, seconds))
def test_gpipe_takes_its_closed_form(p, m, times):
    played, (step_s, held) = play("gpipe", p, m, times), table("gpipe", p, m, times)
    assert played.makespan_s[0] == pytest.approx(step_s)
    assert max(played.in_flight) == (held if p > 1 else 1)


@given(p=st.integers(1, 8), more=st.integers(0, 16), times=st.tuples(seconds, seconds, seconds))
def test_1f1b_takes_its_closed_form_from_as_many_micro_batches_as_stages(p, more, times):
    played, (step_s, held) = play("1f1b", p, p + more, times), table("1f1b", p, p + more, times)
    assert played.makespan_s[0] == pytest.approx(step_s)
    assert max(played.in_flight) == held


@given(
    p=st.integers(2, 6), rounds=st.integers(1, 4), v=st.integers(2, 4),
    times=st.tuples(seconds, seconds, seconds),
)  # fmt: skip
def test_interleaving_takes_its_closed_form(p, rounds, v, times):
    m = rounds * p
    played, (step_s, held) = (
        play("interleaved", p, m, times, v),
        table("interleaved", p, m, times, v),
    )
    assert played.makespan_s[0] == pytest.approx(step_s)
    assert max(played.in_flight) == pytest.approx(held)


@given(
    p=st.integers(2, 8), more=st.integers(0, 16), times=st.tuples(seconds, seconds, seconds),
)  # fmt: skip
def test_zb_h1_takes_its_closed_form(p, more, times):
    """And holds no more than 1F1B, each activation until its weight gradient."""
    played, (step_s, held) = play("zb-h1", p, p + more, times), table("zb-h1", p, p + more, times)
    assert played.makespan_s[0] == pytest.approx(step_s)
    assert max(played.in_flight) == held


@given(
    p=st.integers(2, 8), more=st.integers(0, 16), f=seconds, i=seconds, share=st.floats(0.0, 1.0),
)  # fmt: skip
def test_zb_h2_takes_its_closed_form_where_steps_overlap(p, more, f, i, share):
    """A rank starts its next step when its own passes are done: a step is the longest rank's.

    The norm is checked afterwards (arXiv 2401.10241 section 4). Weight gradients are the shortest.
    """
    times, m = (f, i, share * min(f, i)), 2 * p + more
    played, (step_s, held) = play("zb-h2", p, m, times), table("zb-h2", p, m, times)
    assert played.span_s.max() == pytest.approx(step_s)
    assert max(played.in_flight) == held


@given(p=st.integers(2, 8), more=st.integers(0, 16), t=seconds)
def test_zb_v_has_no_bubble_beyond_fill_and_drain(p, more, t):
    """F = I = W: no rank waits once it has begun; the last begins p - 1 half stages late."""
    m = 2 * p + more
    played, (step_s, held) = play("zb-v", p, m, (t, t, t)), table("zb-v", p, m, (t, t, t))
    assert played.span_s[:, 0] == pytest.approx(np.full(p, 3 * m * t))
    assert played.makespan_s[0] == pytest.approx(3 * m * t + (p - 1) * t / 2)
    assert played.makespan_s[0] == pytest.approx(step_s)
    assert max(played.in_flight) == held == p


@given(
    p=st.integers(2, 8), more=st.integers(0, 16), f=seconds, i=st.floats(1.0, 3.0),
    w=st.floats(0.0, 1.0),
)  # fmt: skip
def test_zb_v_of_unequal_passes_takes_its_form(p, more, f, i, w):
    """Exact where the input gradient is the longest pass, as in any layer with attention in it."""
    times, m = (f, f * i, f * i * w), 2 * p + more
    played, (step_s, _) = play("zb-v", p, m, times), table("zb-v", p, m, times)
    assert played.makespan_s[0] == pytest.approx(step_s)


@given(p=st.integers(2, 8), more=st.integers(0, 16), f=st.floats(0.5, 1.25), w=st.floats(0.2, 1.1))
def test_zb_v_of_a_longer_forward_is_within_three_percent_of_its_form(p, more, f, w):
    m = 2 * p + more
    played, (step_s, _) = play("zb-v", p, m, (f, 1.0, w)), table("zb-v", p, m, (f, 1.0, w))
    assert played.makespan_s[0] == pytest.approx(step_s, rel=0.03)


@pytest.mark.parametrize("name", ["dualpipe", "dualpipe-v"])
@given(half=st.integers(1, 4), more=st.integers(0, 8), t=seconds)
def test_dualpipe_takes_its_makers_form_when_passes_are_equal(name, half, more, t):
    p, m = 2 * half, 4 * half + 2 * more
    played, (step_s, held) = play(name, p, m, (t, t, t)), table(name, p, m, (t, t, t))
    assert played.makespan_s[0] == pytest.approx(step_s)
    assert max(played.in_flight) == held


@pytest.mark.parametrize("name", ["dualpipe", "dualpipe-v"])
@given(
    half=st.integers(2, 4), more=st.integers(0, 8), f=seconds, i=st.floats(1.0, 2.5),
    w=st.floats(0.3, 1.0),
)  # fmt: skip
def test_dualpipe_of_unequal_passes_takes_its_form(name, half, more, f, i, w):
    """Exact where the input gradient is the longest pass; the makers' row is for equal ones."""
    p, m, times = 2 * half, 4 * half + 2 * more, (f, f * i, f * w)
    played, (step_s, _) = play(name, p, m, times), table(name, p, m, times)
    assert played.makespan_s[0] == pytest.approx(step_s)


@given(p=st.integers(1, 6), m=st.integers(1, 12), name=st.sampled_from(["gpipe", "1f1b", "zb-h1"]),
       seed=st.integers(0, 99))  # fmt: skip
def test_no_step_is_shorter_than_its_busiest_rank_or_its_longest_way(p, m, name, seed):
    rng = np.random.default_rng(seed)
    shape = (p, 1)
    times = StageTimes(
        forward_s=rng.uniform(0.5, 2, shape), input_s=rng.uniform(0.5, 2, shape),
        weight_s=rng.uniform(0.5, 2, shape), transfer_s=rng.uniform(0, 1, shape),
    )  # fmt: skip
    played = simulate_schedule(name, m, times)
    one = times.forward_s + times.input_s
    way_s = one.sum() + times.transfer_s[:-1].sum() + times.transfer_s[1:].sum()
    end = played.makespan_s[0]
    assert end >= played.busy_s.max() * (1 - 1e-9)
    assert end >= way_s * (1 - 1e-9)
    assert played.idle_s.min() >= -1e-9
    assert played.busy_s[:, 0] == pytest.approx(m * (one + times.weight_s)[:, 0])


def test_one_message_each_way_is_a_round_trip_of_one_micro_batch():
    still, slow = (play("1f1b", 4, 1, (1.0, 1.0, 1.0), transfer_s=t) for t in (0.0, 0.25))
    assert slow.makespan_s[0] - still.makespan_s[0] == pytest.approx(2 * 3 * 0.25)


def test_1f1b_hides_no_message():
    """p micro-batches are in flight and each goes down and up: 2(p - 1) messages per p of them."""
    p, m = 4, 400
    still, slow = (play("1f1b", p, m, (1.0, 1.0, 1.0), transfer_s=t) for t in (0.0, 0.1))
    each_s = (slow.makespan_s[0] - still.makespan_s[0]) / m
    assert each_s == pytest.approx(2 * (p - 1) / p * 0.1, rel=0.02)


def test_jitter_is_by_its_seed_and_its_mean_is_one():
    even = play("1f1b", 4, 16, (1.0, 1.0, 1.0))
    draws = Jitter(pass_cv=0.05, draws=200, seed=3)
    first, again = (play("1f1b", 4, 16, (1.0, 1.0, 1.0), jitter=draws) for _ in range(2))
    other = play("1f1b", 4, 16, (1.0, 1.0, 1.0), jitter=replace(draws, seed=4))
    assert np.array_equal(first.makespan_s, again.makespan_s)
    assert not np.array_equal(first.makespan_s, other.makespan_s)
    assert first.busy_s.mean() == pytest.approx(even.busy_s.mean(), rel=1e-3)
    assert first.makespan_s.mean() > even.makespan_s[0]


def test_a_slow_rank_is_slow_for_the_whole_step():
    jitter = Jitter(rank_cv=0.1, draws=5)
    played = play("1f1b", 3, 8, (1.0, 1.0, 1.0), jitter=jitter)
    length = played.end_s - played.start_s
    for rank in range(3):
        mine = length[played.graph.rank == rank]
        forward = mine[:1]
        assert np.unique(np.round(mine / forward, 9)).tolist() == [1.0, 2.0]


def test_bad_stage_times_and_jitter_are_told():
    good = even_stages(2, 1, (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="one shape"):
        replace(good, transfer_s=np.zeros((3, 1)))
    with pytest.raises(InputError, match="cv of at least 0"):
        Jitter(pass_cv=-0.1)
