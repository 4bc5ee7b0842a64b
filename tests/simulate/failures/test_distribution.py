"""Luck is narrow at scale, ignorance is not; one seed gives one answer."""

from __future__ import annotations

import resource
from dataclasses import replace

import numpy as np
import pytest
from tests.simulate.failures.fleets import fleet, only_failures

from crore.errors import InputError, UnknownName
from crore.simulate.failures import POLICIES, Unsure, elasticities, goodput, run_distribution

WORK_S = 30 * 86_400.0


def test_one_seed_gives_one_answer_and_another_another():
    run = fleet(100_000)
    for policy in POLICIES:
        once, again, other = (
            run_distribution(run, policy, WORK_S, draws=50, seed=seed, unsure=Unsure())
            for seed in (3, 3, 4)
        )
        assert (once.goodput == again.goodput).all()
        assert once.losses == again.losses
        assert (once.goodput != other.goodput).any()


def test_a_run_finishes_when_its_work_is_done():
    drawn = run_distribution(fleet(1_000_000), "quorum", WORK_S, draws=100)
    np.testing.assert_allclose(drawn.finish_s * drawn.goodput, WORK_S)
    low, middle, high = drawn.percentiles("finish_s").values()
    assert WORK_S < low < middle < high


def test_what_is_not_known_is_wider_than_luck():
    run = fleet(10_000_000)
    lucky = run_distribution(run, "islands-free", WORK_S, draws=400)
    unsure = run_distribution(run, "islands-free", WORK_S, draws=400, unsure=Unsure())
    assert np.ptp(np.log(unsure.goodput)) > 10 * np.ptp(np.log(lucky.goodput))
    assert np.median(unsure.hazard) == pytest.approx(1.8, rel=0.05)
    assert np.log(unsure.hazard).std() == pytest.approx(0.5, rel=0.05)


def test_knowing_the_hazard_is_a_hazard_of_that_size():
    run = fleet(1_000_000)
    known = run_distribution(run, "elastic", WORK_S, 50, unsure=Unsure(median=2.0, sigma=0.0))
    twice = run_distribution(replace(run, hazard=2.0), "elastic", WORK_S, 50)
    assert (known.goodput == twice.goodput).all()


def test_luck_shrinks_with_the_length_of_a_run():
    run = fleet(10_000_000)
    for policy in ("islands-barrier", "restart-peer"):
        short, long = (
            run_distribution(run, policy, days * 86_400.0, draws=400).goodput.std()
            for days in (4, 64)
        )
        assert short / long == pytest.approx(4.0, rel=0.35), policy


def test_progress_is_told():
    told: list[int] = []
    run_distribution(fleet(16_384), "quorum", WORK_S, 100, unsure=Unsure(), on_draws=told.append)
    assert told == sorted(told)
    assert told[-1] == 100
    assert len(told) == 40


def test_what_matters_most_is_first():
    run = fleet(10_000_000)
    found = elasticities(run, "quorum")
    assert list(map(abs, found.values())) == sorted(map(abs, found.values()), reverse=True)
    assert found["stall_s"] < -0.3
    assert found["hazard"] < found["stall_s"] < found["absent_s"] < 0
    causes = sum(found[f"hazards.{hazard.name}"] for hazard in run.hazards)
    rest = found["silent.per_gpu_s"] + found["straggling.per_gpu_s"]
    assert found["hazard"] == pytest.approx(causes + rest, abs=0.02)
    assert elasticities(run, "restart-disk")["disk.restart_s"] < -20


def test_an_elasticity_is_a_derivative():
    """Of 1/(1 + x) by x: -x/(1 + x), at the middle of the step."""
    run = only_failures(1e7, 1.0, absent_s=0.0)
    x = 10 / run.mtbf_s * 1.005
    assert elasticities(run, "quorum")["stall_s"] == pytest.approx(-x / (1 + x), rel=1e-4)


@pytest.mark.parametrize(("work_s", "draws"), [(0.0, 10), (1e13, 10), (1.0, 0)])
def test_no_work_and_no_draws_are_refused(work_s, draws):
    with pytest.raises(InputError, match="work_s > 0 and draws >= 1"):
        run_distribution(fleet(16_384), "quorum", work_s, draws)


def test_an_unknown_policy_is_refused():
    with pytest.raises(UnknownName, match="elastic"):
        run_distribution(fleet(16_384), "elastics", WORK_S)  # type: ignore[arg-type]


def test_a_hazard_known_to_be_nothing_is_refused():
    with pytest.raises(InputError, match="median"):
        Unsure(median=0.0)


@pytest.mark.drill
def test_every_policy_of_ten_million_takes_seconds():
    """A hundred days, a thousand draws, one and three times the hazard: 20 CPU s at most."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    start = used()
    for hazard in (1.0, 3.0):
        run = fleet(10_000_000, hazard)
        for policy in POLICIES:
            drawn = run_distribution(run, policy, 100 * 86_400.0, draws=1000, unsure=Unsure())
            assert drawn.goodput.size == 1000
            assert 0 <= float(goodput(run, policy).goodput) <= 1
    assert used() - start < 20
