"""Who is blamed for a standstill."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from crore.train.culprit import ENDED, MAX_CHARS, Sign, culprit, sign_of

CLOCK_S = 1000.0


def sign(rank, step=12, phase="forward", where="", *, marks=1, quiet_s=31.0, **other):
    base = Sign(rank=rank, count=50, time_s=CLOCK_S, step=step, phase=phase, marks=marks,
                quiet_s=quiet_s, allowed_s=30.0, where=where)  # fmt: skip
    return replace(base, **other)


def judged(*signs, mute=()):
    before = [s and replace(s, count=s.count - (s.rank not in mute)) for s in signs]
    return culprit(before, signs, CLOCK_S)


def waits(rank, **other):
    return sign(rank, phase="gradient norm", where="all_reduce", marks=3, **other)


def test_a_stopped_process_is_named_with_what_the_others_wait_in():
    line = judged(waits(0), sign(1, time_s=CLOCK_S - 31.4), waits(2), mute=[1])
    assert line == (
        "rank 1 hung: no sign for 31 s, last seen at step 12 in forward; "
        "ranks 0, 2 wait in all_reduce (gradient norm) at step 12"
    )


def test_a_process_mute_for_less_than_its_phase_may_take_is_left_alone():
    busy = sign(1, time_s=CLOCK_S - 31, allowed_s=600, quiet_s=31)
    assert judged(waits(0), busy, mute=[1]) == ""


def test_a_rank_busy_while_the_others_wait_is_named():
    assert judged(waits(0), sign(1), waits(2), waits(3)) == (
        "rank 1 hung: 31 s at step 12 in forward; "
        "ranks 0, 2-3 wait in all_reduce (gradient norm) at step 12"
    )


def test_the_one_furthest_behind_is_named():
    line = judged(waits(0), sign(1, step=12), sign(2, step=11))
    assert line.startswith("rank 2 hung: 31 s at step 11 in forward; rank 0 waits in all_reduce")


def test_a_slow_rank_within_what_its_phase_allows_does_not_hang():
    assert judged(waits(0), sign(1, quiet_s=20)) == ""
    assert judged(waits(0), sign(1, phase="checkpoint", quiet_s=100, allowed_s=600)) == ""


def test_ranks_in_different_collectives_do_not_meet():
    other = sign(1, phase="evaluation", where="barrier", marks=4)
    assert judged(waits(0), other) == (
        "the ranks do not meet; rank 0 waits in all_reduce (gradient norm) at step 12; "
        "rank 1 waits in barrier (evaluation) at step 12"
    )


def test_a_rank_that_went_past_the_collective_does_not_meet_the_one_in_it():
    assert judged(waits(0), sign(1, step=14, quiet_s=0.1)) == (
        "the ranks do not meet; rank 0 waits in all_reduce (gradient norm) at step 12; "
        "rank 1 is at step 14 in forward"
    )


def test_a_rank_that_ended_is_named():
    assert judged(waits(0), sign(1, phase=ENDED), mute=[1]) == (
        "rank 1 ended; rank 0 waits in all_reduce (gradient norm) at step 12"
    )


def test_a_rank_that_never_gave_a_sign_is_named():
    assert judged(waits(0), None).startswith("rank 1 hung: never gave a sign; rank 0 waits in")


def test_all_stand_still_without_a_collective():
    line = judged(sign(0, quiet_s=40), sign(1))
    assert line == "rank 0 hung: 40 s at step 12 in forward; rank 1 is at step 12 in forward"


@given(st.lists(st.builds(
    sign, st.just(0), st.integers(0, 3), st.sampled_from(["forward", "a" * 90, ENDED]),
    st.sampled_from(["", "wait", "b" * 90]), quiet_s=st.floats(0, 99), marks=st.integers(0, 3),
), min_size=1, max_size=40), st.sets(st.integers(0, 39)))  # fmt: skip
def test_any_state_of_a_world_gives_at_most_one_line(signs, mute):
    placed = [replace(s, rank=rank) for rank, s in enumerate(signs)]
    line = judged(*placed, mute=mute)
    assert len(line) <= MAX_CHARS
    assert "\n" not in line
    assert all(sign_of(s.to_json()) == s for s in placed)
