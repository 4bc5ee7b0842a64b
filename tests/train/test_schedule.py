"""The learning rate and the batch, step by step."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crore.errors import InputError, UnknownName
from crore.train.schedule import (
    SCHEDULES,
    Ramp,
    Schedule,
    batch,
    factor,
    first_sample,
    parse_ramp,
    parse_schedule,
    steps_in,
)


@st.composite
def schedules(draw):
    steps = draw(st.integers(1, 300))
    warmup = draw(st.integers(0, steps))
    return Schedule(
        kind=draw(st.sampled_from(["cosine", "wsd"])),
        steps=steps,
        warmup_steps=warmup,
        decay_steps=draw(st.integers(0, steps - warmup)),
        decay=draw(st.sampled_from(["linear", "1-sqrt"])),
        floor=draw(st.floats(0, 1)),
    )


@st.composite
def ramps(draw):
    unit = draw(st.integers(1, 4))
    starts = sorted(draw(st.sets(st.integers(1, 500), max_size=4)))
    sizes = st.integers(1, 50).map(lambda k: k * unit)
    return Ramp(stages=tuple((start, draw(sizes)) for start in [0, *starts]), unit=unit)


@given(schedules())
def test_a_factor_is_from_0_to_1_and_ends_at_the_floor(schedule):
    factors = [factor(schedule, step) for step in range(schedule.steps)]
    assert all(0 <= f <= 1 for f in factors)
    assert all(f > 0 for f in factors)
    assert factor(schedule, schedule.steps) == factor(schedule, 10**9) == schedule.floor


@given(schedules())
def test_the_rise_is_monotone_and_the_fall_too(schedule):
    factors = [factor(schedule, step) for step in range(schedule.steps + 1)]
    rise, fall = factors[: schedule.warmup_steps], factors[schedule.warmup_steps :]
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)


@given(schedules())
def test_no_jump_is_larger_than_the_steepest_step_of_its_shape(schedule):
    fall = schedule.steps - schedule.warmup_steps
    steepest = math.pi / 2 / max(1, fall)
    if schedule.kind == "wsd":
        steepest = math.sqrt(1 / max(1, schedule.decay_steps))
    factors = [factor(schedule, step) for step in range(schedule.steps + 1)]
    rising, falling = factors[: schedule.warmup_steps + 1], factors[schedule.warmup_steps :]
    if fall:  # else the run ends with its warm-up
        jumps = [b - a for a, b in pairwise(rising)]
        assert jumps == pytest.approx([1 / (schedule.warmup_steps + 1)] * len(jumps))
    assert all(a - b <= steepest + 1e-12 for a, b in pairwise(falling))


def test_shapes_at_known_steps():
    cosine = parse_schedule("cosine", 1000, warmup_steps=0)
    assert factor(cosine, 500) == pytest.approx(0.1 + 0.9 / 2)
    wsd = parse_schedule("wsd", 1000)
    assert (wsd.warmup_steps, wsd.decay_steps, wsd.floor) == (50, 200, 0)
    assert factor(wsd, 49) == pytest.approx(50 / 51)
    assert factor(wsd, 50) == factor(wsd, 800) == 1
    assert factor(wsd, 850) == pytest.approx(1 - math.sqrt(50 / 200))
    assert factor(parse_schedule("wsd-linear", 1000), 850) == pytest.approx(0.75)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100_000])
def test_the_usual_shares_fit_any_run(name, steps):
    schedule = parse_schedule(name, steps)
    assert schedule.warmup_steps <= 2000
    assert 0 < factor(schedule, steps - 1) <= 1


def test_a_wrong_schedule_is_one_line():
    with pytest.raises(UnknownName, match="unknown learning-rate schedule 'cosin'; did you mean"):
        parse_schedule("cosin", 100)
    with pytest.raises(InputError, match=r"warm-up \(200 steps\) .* must fit in the run \(100\)"):
        parse_schedule("cosine", 100, warmup_steps=200)
    with pytest.raises(InputError, match="floor must be from 0 to 1"):
        parse_schedule("cosine", 100, floor=2)


@given(ramps(), st.integers(0, 300))
def test_steps_follow_each_other_without_a_gap(ramp, step):
    assert first_sample(ramp, 0) == 0
    assert first_sample(ramp, step + 1) == first_sample(ramp, step) + batch(ramp, step)
    assert batch(ramp, step) % ramp.unit == 0


@given(ramps(), st.integers(0, 3000))
def test_a_sample_is_in_the_step_that_the_samples_before_it_are_worth(ramp, sample):
    step = math.floor(steps_in(ramp, sample))
    assert first_sample(ramp, step) <= sample < first_sample(ramp, step + 1)
    share = (sample - first_sample(ramp, step)) / batch(ramp, step)
    assert steps_in(ramp, sample) == pytest.approx(step + share)


@given(ramps(), st.integers(0, 3000))
def test_the_samples_of_whole_steps_are_worth_just_these(ramp, step):
    assert steps_in(ramp, first_sample(ramp, step)) == step


@given(ramps(), st.integers(0, 300))
def test_a_step_has_the_batch_of_the_last_stage_begun_at_its_first_sample(ramp, step):
    begun = [size for start, size in ramp.stages if start <= first_sample(ramp, step)]
    assert batch(ramp, step) == begun[-1]


def test_a_ramp_of_equal_stages():
    ramp = parse_ramp("16:16:3k", 64, unit=8)
    assert ramp.stages == ((0, 16), (1000, 32), (2000, 48), (3000, 64))
    assert batch(ramp, 0) == 16
    assert batch(ramp, steps_in(ramp, 10_000)) == 64
    assert parse_ramp("", 64).stages == parse_ramp("64:8:1k", 64).stages == ((0, 64),)


@pytest.mark.parametrize(
    "text", ["16", "16:16", "0:16:1k", "128:16:1k", "16:13:1k", "16:1:3", "a:b:c"]
)
def test_a_wrong_ramp_is_one_line(text):
    with pytest.raises(InputError) as caught:
        parse_ramp(text, 64)
    assert len(str(caught.value)) <= 230


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="batch of 12 sequences is no multiple of 8"):
        Ramp(stages=((0, 12),), unit=8)
    with pytest.raises(InputError, match="must rise from 0"):
        Ramp(stages=((0, 8), (0, 16)))
