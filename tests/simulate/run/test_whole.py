"""The run of a plan: one seed one answer, drawn as closed forms say, worse with more failures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from crore.errors import InputError
from crore.plan.request import DAY_S
from crore.simulate import simulate_plan, subject_of
from crore.simulate.failures import Unsure
from crore.simulate.run import record
from crore.simulate.run.subject import Spread
from crore.simulate.run.whole import HAZARDS, NEVER_DAYS, STALLED

NAMES = ("dense", "quorum", "islands", "ten_million")
ROUNDING = 1e-9


def told(done):
    """Return the record of a run without the time it took."""
    return {key: value for key, value in record(done).items() if key != "cpu_s"}


def ordered(points):
    return points is None or points.p10 <= points.p50 <= points.p90


@pytest.mark.parametrize("name", ["dense", "islands"])
def test_one_seed_is_one_answer_and_another_another(plans, steps, runs, name):
    subject, step = subject_of(plans(name)), steps(name)
    again = simulate_plan(subject, step, draws=40)
    other = simulate_plan(subject, step, draws=40, seed=1)
    assert told(again) == told(runs(name))
    assert other.goodput != again.goodput
    assert other.finish_days != again.finish_days
    assert [it.goodput for it in other.policies] != [it.goodput for it in again.policies]


@pytest.mark.parametrize("name", NAMES)
def test_progress_and_losses_are_all_of_the_time(runs, name):
    """At a known hazard the run is that of its policy in the table, draw by draw."""
    done = runs(name, hazard=1.0)
    mean = next(it.goodput for it in done.at(1.0) if it.policy == done.policy)
    assert mean + sum(done.losses.values()) == pytest.approx(1.0, abs=ROUNDING)
    assert min(done.losses.values()) >= 0
    assert done.goodput.p10 <= mean <= done.goodput.p90


@pytest.mark.parametrize("name", NAMES)
def test_of_a_run_whose_hazard_is_unsure_the_losses_leave_a_goodput_it_draws(runs, name):
    done = runs(name)
    assert done.goodput.p10 < 1 - sum(done.losses.values()) < done.goodput.p90


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_is_drawn_as_its_closed_form_has_it(runs, name):
    """In the time a run takes, 1/goodput: its mean is what the closed form gives."""
    done = runs(name)
    assert {it.policy for it in done.policies} == set(done.subject.applies)
    assert len(done.policies) == len(HAZARDS) * len(done.subject.applies)
    for it in done.policies:
        gap = 1 / it.goodput - 1 / it.closed
        assert abs(gap) <= 4 * it.inverse_error, (it.policy, it.hazard)


@pytest.mark.parametrize("name", NAMES)
def test_three_times_the_hazard_keeps_no_more_and_ends_no_earlier(runs, name):
    done = runs(name)
    once, thrice = (done.at(hazard) for hazard in HAZARDS)
    for few, many in zip(once, thrice, strict=True):
        assert few.policy == many.policy
        assert many.goodput <= few.goodput
        assert many.closed <= few.closed
        if many.finish_days is not None:
            assert few.finish_days is not None
            assert few.finish_days.p50 <= many.finish_days.p50


@pytest.mark.parametrize("name", ["dense", "quorum", "islands"])
def test_without_outages_of_sites_even_luck_is_worse_at_three_times_the_hazard(plans, steps, name):
    """Outages come as often at any hazard; a few draws of a month may have more of them at one."""
    subject = subject_of(plans(name))
    calm = replace(subject.run, sites=replace(subject.run.sites, every_s=math.inf))
    done = simulate_plan(replace(subject, run=calm), steps(name), draws=40)
    for few, many in zip(*(done.at(hazard) for hazard in HAZARDS), strict=True):
        if many.finish_days is None:
            continue
        assert few.finish_days is not None
        assert few.finish_days.p10 <= many.finish_days.p10
        assert few.finish_days.p50 <= many.finish_days.p50
        assert few.finish_days.p90 <= many.finish_days.p90


@pytest.mark.parametrize("name", NAMES)
def test_points_of_a_distribution_are_in_order(runs, name):
    done = runs(name)
    assert ordered(done.goodput)
    assert ordered(done.finish_days)
    assert all(ordered(it.finish_days) for it in done.policies)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_ends_when_its_work_is_done(runs, name):
    done = runs(name)
    for it in done.policies:
        apart = it.policy.startswith("islands-")
        learned = done.subject.learning.value if apart else 1.0
        days = done.subject.work_s / DAY_S / learned / it.goodput
        if it.finish_days is None:
            assert days > 0.9 * NEVER_DAYS
        else:
            assert it.finish_days.p10 * 0.99 <= days <= it.finish_days.p90 * 1.01


def test_a_wider_interval_of_the_step_is_a_wider_finish(plans, steps):
    subject = subject_of(plans("dense"))
    middle = subject.step_s.value
    widths = []
    for factor in (1.0, 1.1, 1.5):
        spread = Spread(low=middle / factor, value=middle, high=middle * factor)
        done = simulate_plan(
            replace(subject, step_s=spread), steps("dense"), draws=400, hazard=0.0,
            policy="hot-spares",
        )  # fmt: skip
        assert done.finish_days is not None
        widths.append(done.finish_days.p90 / done.finish_days.p10)
    # An 80 % interval lies between its p10 and p90; luck alone is far narrower at hazard 0.
    assert widths[0] < 1.02
    assert widths[1] == pytest.approx(1.1**2, rel=0.05)
    assert widths[2] == pytest.approx(1.5**2, rel=0.15)


def test_the_step_moves_the_finish_and_not_what_is_kept(plans, steps, runs):
    subject = subject_of(plans("dense"))
    wide = replace(subject.step_s, low=subject.step_s.low / 2, high=subject.step_s.high * 2)
    done = simulate_plan(replace(subject, step_s=wide), steps("dense"), draws=40)
    assert done.goodput == runs("dense").goodput
    assert done.policies == runs("dense").policies
    assert done.finish_days != runs("dense").finish_days


def test_learning_less_lengthens_islands_alone(plans, steps):
    subject = subject_of(plans("islands"))
    alike, half = (
        simulate_plan(
            replace(subject, learning=Spread(low=share, value=share, high=share)),
            steps("islands"), draws=20,
        )
        for share in (1.0, 0.5)
    )  # fmt: skip
    for one, other in zip(alike.policies, half.policies, strict=True):
        assert one.goodput == other.goodput
        assert one.finish_days is not None
        assert other.finish_days is not None
        factor = 2 if one.policy.startswith("islands-") else 1
        assert other.finish_days.p50 == pytest.approx(factor * one.finish_days.p50)
    assert alike.policy.startswith("islands-")
    assert alike.finish_days is not None
    assert half.finish_days is not None
    assert half.finish_days.p50 == pytest.approx(2 * alike.finish_days.p50)


def test_learning_less_does_not_lengthen_a_run_in_step(plans, steps):
    subject = subject_of(plans("islands"))
    alike, half = (
        simulate_plan(
            replace(subject, learning=Spread(low=share, value=share, high=share)),
            steps("islands"), draws=20, policy="quorum",
        )
        for share in (1.0, 0.5)
    )  # fmt: skip
    assert alike.finish_days == half.finish_days


def test_a_hazard_given_is_that_hazard(runs):
    """Nought too: then nothing fails, and only what is planned and what strikes a site is left."""
    known, none, thrice, unsure = (
        runs("islands", hazard=1.0), runs("islands", hazard=0.0), runs("islands", hazard=3.0),
        runs("islands"),
    )  # fmt: skip
    assert (none.hazard, known.hazard, thrice.hazard) == (0.0, 1.0, 3.0)
    assert none.unsure is known.unsure is None
    assert unsure.unsure == Unsure()
    for cause in ("stall", "stragglers", "silent corruption", "absent worlds", "no spare"):
        assert none.losses[cause] == 0, cause
        assert 0 < known.losses[cause] < thrice.losses[cause] or cause == "no spare"
    assert none.losses["maintenance"] > 0
    assert thrice.goodput.p50 < known.goodput.p50 < none.goodput.p50
    assert none.policies == known.policies == thrice.policies


def test_what_is_not_known_spreads_what_is_kept(runs):
    known, unsure = runs("ten_million", hazard=1.0).goodput, runs("ten_million").goodput
    assert unsure.p90 - unsure.p10 > 5 * (known.p90 - known.p10)


def test_a_run_that_keeps_nothing_stands_still(plans, steps, runs):
    subject = replace(subject_of(plans("ten_million")), applies=("restart-disk", "islands-free"))
    done = simulate_plan(subject, steps("ten_million"), draws=20, policy="restart-disk")
    assert done.policy == "restart-disk"
    assert done.stands_still
    assert done.goodput.p50 < STALLED
    assert done.finish_days is None
    assert done.best.policy == "islands-free"
    assert not runs("ten_million").stands_still


def test_a_run_may_stand_still_at_a_hazard_no_table_shows(runs):
    done = runs("dense", hazard=1e6)
    assert done.stands_still
    assert done.goodput.p90 < 1e-100
    assert all(np.isfinite(it.inverse_error) for it in done.policies)
    # Nothing is kept, however many attempts that take.
    assert sum(done.losses.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("hazard", [1e3, 1e6])
def test_islands_of_which_nothing_is_left_are_drawn_too(plans, steps, hazard):
    subject = subject_of(plans("islands"))
    for policy in subject.applies:
        done = simulate_plan(
            replace(subject, applies=(policy,)), steps("islands"), draws=5, hazard=hazard,
            policy=policy,
        )  # fmt: skip
        assert ordered(done.goodput)
        assert sum(done.losses.values()) <= 1 + ROUNDING


def test_what_moves_it_most_is_first(runs):
    moves = runs("islands").moves
    assert list(map(abs, moves.values())) == sorted(map(abs, moves.values()), reverse=True)
    assert moves["hazard"] < 0
    assert runs("dense").moves["disk.restart_s"] < 0


def test_progress_is_told_and_says_what_is_drawn(plans, steps):
    seen: list[tuple[float, str]] = []
    subject = subject_of(plans("dense"))
    simulate_plan(subject, steps("dense"), draws=2, watch=lambda *it: seen.append(it))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert 0 == shares[0] < shares[-1] < 1
    assert [text for _, text in seen] == [
        "restart-disk",
        *(f"{name} at hazard x{times:g}" for times in HAZARDS for name in subject.applies),
    ]


def test_no_draws_are_refused(plans, steps):
    with pytest.raises(InputError, match="draws >= 1"):
        simulate_plan(subject_of(plans("dense")), steps("dense"), draws=0)
