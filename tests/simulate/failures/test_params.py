"""A run is checked where it is built, and filled from the catalogue."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.simulate.failures.fleets import fleet, only_failures

from crore.errors import InputError
from crore.simulate.failures import Hazard, catalogue_run, failures_only, spares_share
from crore.simulate.failures.rates import absence, expected_missing, in_repair

LLAMA: dict[str, Any] = {
    "gpus": 16_384.0,
    "world_gpus": 16_384.0,
    "islands": 1,
    "step_s": 6.0,
    "round_s": 600.0,
}


def test_the_catalogue_fails_as_llama_3_did():
    """419 in 54 days, silent corruption among them; racks and rows are estimates beside them."""
    run = catalogue_run(**LLAMA)
    assert run.mtbf_s * 419 / 86_400 == pytest.approx(54, rel=0.01)


def test_ten_million_fail_every_eighteen_seconds():
    assert fleet(10_000_000).mtbf_s == pytest.approx(18.2, abs=0.1)
    assert fleet(10_000_000, 3.0).mtbf_s == pytest.approx(6.06, abs=0.05)


def test_nothing_that_fails_never_fails():
    assert only_failures(1e6, 1.0, hazards=()).mtbf_s == math.inf


def test_only_failures_are_left_when_asked():
    run = failures_only(catalogue_run(**LLAMA))
    assert run.permanent == run.silent.per_gpu_s == run.straggling.per_gpu_s == 0
    assert in_repair(run) == 0


def test_spares_of_the_catalogue_last_at_three_times_the_hazard():
    run = replace(catalogue_run(**LLAMA), hazard=3.0)
    assert expected_missing(run) < 0.001
    none = replace(run, spares=replace(run.spares, share=0.0))
    assert expected_missing(none) > 0.9


@pytest.mark.parametrize(
    ("drain_gpus", "days", "share"), [(4, 1, 0.0006), (72, 1, 0.0107), (72, 3, 0.0320)]
)
def test_machines_in_repair_at_ten_million(drain_gpus, days, share):
    """Half of the 262 GPU faults in 419 need hands: trays of 4, or whole racks, a day or three."""
    run = only_failures(1e7, 72.0)
    gpu = Hazard(
        name="gpu", domain="gpu", domain_gpus=1.0, permanent=0.5,
        per_gpu_s=run.failures_per_gpu_s * 262 / 419,
    )  # fmt: skip
    spares = replace(run.spares, drain_gpus=float(drain_gpus), repair_s=days * 86_400.0)
    run = replace(run, hazards=(gpu,), spares=spares)
    assert in_repair(run) * drain_gpus / 1e7 == pytest.approx(share, abs=6e-5)
    covered = spares_share(run, 1.0, 0.999)
    assert share < covered < share * 1.1


def test_a_domain_larger_than_a_world_takes_all_its_worlds():
    rack = Hazard(name="rack", domain="rack", domain_gpus=72.0, per_gpu_s=1e-9)
    small, large = (
        only_failures(1e6, world, hazards=(rack,), absent_s=600.0) for world in (8.0, 720.0)
    )
    assert absence(small) == pytest.approx(1e-9 * 72 * 600)
    assert absence(large) == pytest.approx(1e-9 * 720 * 600)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpus": 0.0}, "run: gpus is a number > 0"),
        ({"gpus": math.nan}, "run: gpus is a number > 0"),
        ({"islands": 0}, "islands is a whole number"),
        ({"islands": 2.5}, "islands is a whole number"),
        ({"world_gpus": 9_000.0, "islands": 2}, "give fewer islands or smaller worlds"),
        ({"quorum": 1.2}, "quorum is a number >= 0 and <= 1"),
        ({"stall_s": -1.0}, "stall_s is a number >= 0, not -1.0"),
        ({"hazard": -2.0}, "hazard is a number >= 0"),
    ],
)
def test_a_run_that_cannot_be_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(catalogue_run(**LLAMA), **change)


def test_parts_that_cannot_be_are_refused():
    run = catalogue_run(**LLAMA)
    with pytest.raises(InputError, match="slowdown is >= 1"):
        replace(run.straggling, slowdown=0.5)
    with pytest.raises(InputError, match="permanent is a number >= 0 and <= 1"):
        replace(run.hazards[0], permanent=2.0)
    with pytest.raises(InputError, match="sites: every_s is a number > 0"):
        replace(run.sites, every_s=0.0)
