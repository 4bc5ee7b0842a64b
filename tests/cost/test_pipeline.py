"""The longest way through a pipeline, counted in closed form, is as long as it is played."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crore.cost.pipeline import Pipeline, waiting
from crore.cost.schedules import SCHEDULE_NAMES, SCHEDULES, least_micro_batches, schedule_code
from crore.simulate.schedules import StageTimes, simulate_schedule
from crore.simulate.schedules.passes import chunk_share, ways

FOLDED = ("zb-v", "dualpipe", "dualpipe-v")
CASES = {
    "p": st.sampled_from([4, 6, 8, 12]),
    "rounds": st.integers(2, 6),
    "v": st.integers(2, 4),
    "backward": st.floats(1.0, 2.2),
    "weight": st.floats(0.6, 1.0),
    "hop": st.floats(0.0, 0.1),
}


def played_and_planned(name, p, m, v, times, head, hop):
    """Return (played, planned) seconds of a step; `head` is added to the last stage's passes."""
    chunks = 2 if name in FOLDED else v if name == "interleaved" else 1
    each = np.full((p, chunks), chunk_share(name, chunks))
    for way in ways(name, p, chunks):
        each[way[-1]] += head
    parts = [t * each for t in times]
    played = simulate_schedule(name, m, StageTimes(
        forward_s=parts[0], input_s=parts[1], weight_s=parts[2], transfer_s=0 * each + hop,
    ))  # fmt: skip
    by_rank = [part.sum(axis=1) / (2 if name == "dualpipe" else 1) for part in parts]
    whole = sum(by_rank)
    slow = int(whole.argmax())
    others = [float((x.sum() - x[slow]) / (p - 1)) for x in by_rank]
    waits = waiting(Pipeline(
        code=float(schedule_code(name)), pp=float(p), vpp=v if name == "interleaved" else 1.0,
        micro_batches=float(m), forward_s=others[0], backward_s=others[1], weight_s=others[2],
        longer_s=float(whole[slow]) - sum(others), hop_s=hop,
    ))  # fmt: skip
    overlap = SCHEDULES[schedule_code(name)].steps_overlap
    end = played.span_s.max() if overlap else played.makespan_s[0]
    return float(end), float(m * whole[slow] + waits.bubble_s + waits.messages_s)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@settings(max_examples=25)
@given(**CASES)
def test_even_stages_take_what_is_counted_messages_included(name, p, rounds, v, backward, weight,
                                                            hop):  # fmt: skip
    times = (1.0, backward, weight)
    played, planned = played_and_planned(name, p, rounds * p, v, times, 0.0, hop)
    assert planned == pytest.approx(played, rel=0.01)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@settings(max_examples=25)
@given(**CASES, head=st.floats(0.02, 0.5))
def test_a_longer_last_stage_takes_what_is_counted(name, p, rounds, v, backward, weight, hop, head):
    times = (1.0, backward, weight)
    played, planned = played_and_planned(name, p, rounds * p, v, times, head, hop)
    assert planned == pytest.approx(played, rel=0.025)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
@pytest.mark.parametrize("hop", [1.0, 4.0])
def test_messages_as_long_as_passes_are_not_thought_away(name, hop):
    """A slow network: within a sixth, however full the pipe is of messages."""
    played, planned = played_and_planned(name, 8, 64, 2, (1.0, 1.3, 0.9), 0.0, hop)
    assert planned == pytest.approx(played, rel=0.17)


PIPE = Pipeline(
    code=0.0, pp=8.0, vpp=1.0, micro_batches=64.0, forward_s=1.0, backward_s=1.2, weight_s=0.8
)
CODES = {name: float(schedule_code(name)) for name in SCHEDULE_NAMES}


def of(name, **more):
    waits = waiting(replace(PIPE, code=CODES[name], **more))
    return float(waits.bubble_s), float(waits.messages_s)


def test_only_1f1b_and_dualpipe_wait_for_messages_with_a_full_pipe():
    """Twice the micro-batches wait as much longer there, nowhere else."""
    once, twice = ({name: of(name, hop_s=0.01, micro_batches=m)[1] for name in CODES}
                   for m in (64.0, 128.0))  # fmt: skip
    grows = {name for name in CODES if twice[name] > once[name] * (1 + 1e-9)}
    assert grows == {"1f1b", "dualpipe", "dualpipe-v"}
    assert twice["1f1b"] - once["1f1b"] == pytest.approx(64 * 2 * 7 / 8 * 0.01)


def test_a_slower_rank_hides_the_messages_of_the_others():
    """1F1B waits for one round trip of the pipe, as soon as each trip fits in the slack."""
    assert of("1f1b", hop_s=0.01, longer_s=0.03)[1] == pytest.approx(2 * 7 * 0.01)


def test_a_longer_rank_fills_a_bubble_that_weight_gradients_fill():
    """1F1B's and interleaving's are fill and drain alone, and stay."""
    for name in CODES:
        even, longer = of(name)[0], of(name, longer_s=0.2)[0]
        same = name in ("gpipe", "1f1b", "interleaved")
        assert longer == pytest.approx(even) if same else longer < even, name


@given(
    code=st.sampled_from(range(len(SCHEDULES))), p=st.integers(1, 64), m=st.integers(1, 512),
    v=st.integers(1, 8), times=st.tuples(*[st.floats(0.0, 10.0)] * 5),
)  # fmt: skip
def test_waiting_is_never_negative_and_none_without_a_pipeline(code, p, m, v, times):
    forward_s, backward_s, weight_s, longer_s, hop_s = times
    vpp = float(v) if SCHEDULES[code].virtual_chunks == 0 else 1.0
    waits = waiting(Pipeline(
        code=float(code), pp=float(p), vpp=vpp, micro_batches=float(m), forward_s=forward_s,
        backward_s=backward_s, weight_s=weight_s, longer_s=longer_s, hop_s=hop_s,
    ))  # fmt: skip
    assert min(waits.bubble_s, waits.messages_s) >= -1e-9
    assert p > 1 or waits.bubble_s == waits.messages_s == 0


def test_each_candidate_has_its_own_schedule():
    codes = np.array(list(CODES.values()) * 2)
    hops = np.repeat([0.0, 0.02], len(CODES))
    together = waiting(replace(PIPE, code=codes, hop_s=hops, longer_s=0.05))
    alone = [waiting(replace(PIPE, code=c, hop_s=h, longer_s=0.05))
             for c, h in zip(codes, hops, strict=True)]  # fmt: skip
    assert together.bubble_s == pytest.approx([float(it.bubble_s) for it in alone])
    assert together.messages_s == pytest.approx([float(it.messages_s) for it in alone])


def test_every_schedule_fills_its_pipe_before_messages_count_twice():
    """With no more micro-batches than fill it, only the way there and back waits for them."""
    for name, code in CODES.items():
        least = float(least_micro_batches(code, 8.0)) or 1.0
        hops = of(name, hop_s=1e-3, micro_batches=least)[1] / 1e-3
        assert 2 * 7 - 1e-6 <= hops <= 8 * 7, name
