"""Worlds and islands that die, hang, slow down and err, by a seeded schedule, on gloo.

Faults come by the clock and a run is counted in steps, so a run is as long as this machine takes
for the faults that are wanted: its speed is measured first.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tests.train.fault.fleet import job_for, prepared, random_words, run

from crore.train.fault.audit import Audit, audit
from crore.train.fault.supervisor import Fleet
from crore.train.folder import LOG
from crore.train.history import Run, read_run
from crore.train.islands.settings import Outer
from crore.train.job import Job
from crore.train.schedule import batch, first_sample
from crore.train.start import start

pytestmark = pytest.mark.drill
WENT_ON_S = 5.0
"""In the median."""
FAULTS_S = 20.0
"""Faults end so long after the first step."""
SPARE = 2.0
"""A run is so many times as long: what is left of a fleet may be faster, and is to come back; and
the machine may be less busy than when its speed was measured."""
LEAST = 300
"""Steps after which there is nothing more to learn."""
OUTER = Outer(interval=10, bits=4, lr=1.0, momentum=0.5)  # calmer at so few steps


def _job(folder: Path, islands: int, steps: int) -> Job:
    folder.mkdir(exist_ok=True)
    source = random_words(folder / "words.txt")
    outer = OUTER if islands > 1 else None
    return prepared(job_for(folder, steps=steps, outer=outer, evaluation_rows=64, source=source))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Run]:
    """Return a function from a number of islands to a run of three worlds that nothing happens to.

    It has the steps that this machine takes in the time of a drill.
    """

    def carried_out(islands: int, steps: int) -> Run:
        job = _job(tmp_path_factory.mktemp("calm"), islands, steps)
        outcome = run(job, Fleet(worlds=3, islands=islands))
        assert outcome.reason == "finished", outcome
        return read_run(job.folder / LOG)

    @cache
    def found(islands: int) -> Run:
        steps = carried_out(islands, 150).steps
        first, last = (dt.datetime.fromisoformat(steps[n].time) for n in (20, -1))
        per_s = len(steps[21:]) / (last - first).total_seconds()
        return carried_out(islands, max(LEAST, 10 * math.ceil(SPARE * FAULTS_S * per_s / 10)))

    return found


def _drilled(calm: Run, folder: Path, fleet: Fleet, least: int, over: int = 1) -> tuple[Run, Audit]:
    """Return a drill's run and audit: it ended, alike for all, with each sample once.

    It has fewer than `over` steps' samples more than were planned.
    """
    job = _job(folder, fleet.islands, calm.steps[-1].step)
    outcome = run(job, replace(fleet, chaos_s=FAULTS_S))
    assert outcome.reason == "finished", outcome
    found = audit(job.folder, worlds=fleet.worlds, islands=fleet.islands)
    assert not found.problems, found.problems
    assert len(found.checksums) == fleet.worlds, found.checksums
    assert len(set(found.checksums.values())) == 1, found.checksums
    assert found.went_on_s() <= WENT_ON_S, found.hits
    done = read_run(job.folder / LOG)
    planned = first_sample(job.ramp, job.steps)
    assert planned <= found.merged < planned + over * batch(job.ramp, 0)
    assert done.end is not None
    assert found.merged == done.end.samples
    chaos = [event for event in done.events if event.what == "chaos"]
    assert len(chaos) >= least, chaos
    assert done.evals[-1].loss == pytest.approx(calm.evals[-1].loss, rel=0.01)
    return done, found


@pytest.mark.parametrize(
    ("kind", "every_s", "least", "seed"),
    [
        ("kill", 6.0, 4, 6), ("hang", 10.0, 2, 3), ("slow", 12.0, 2, 15), ("corrupt", 7.0, 4, 14),
        ("lighthouse", 9.0, 2, 4),
    ],
)  # fmt: skip
def test_an_island_of_three_worlds_outlives_them(
    tmp_path: Path, undisturbed: Callable[[int], Run], kind: str, every_s: float, least: int,
    seed: int,
) -> None:  # fmt: skip
    fleet = Fleet(worlds=3, chaos={kind: every_s}, chaos_seed=seed)
    done, found = _drilled(undisturbed(1), tmp_path / "run", fleet, least)
    assert all(hit.back_behind in (None, 0, 1) for hit in found.hits), found.hits
    said = [event.message for event in done.events]
    if kind == "corrupt":
        assert any("differ from the others" in message for message in said), said
    if kind == "slow":
        assert any("times slower" in message for message in said), said


def test_three_worlds_of_an_island_train_as_one_does(
    tmp_path: Path, undisturbed: Callable[[int], Run]
) -> None:
    calm = undisturbed(1)
    alone = _job(tmp_path / "alone", 1, len(calm.steps))
    assert start(alone).exit_code == 0
    loss = read_run(alone.folder / LOG).evals[-1].loss
    assert calm.evals[-1].loss == pytest.approx(loss, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "every_s", "least", "seed"),
    [
        ("kill", 6.0, 4, 6), ("hang", 10.0, 2, 3), ("slow", 12.0, 2, 15), ("corrupt", 7.0, 4, 14),
        ("lighthouse", 9.0, 2, 4),
    ],
)  # fmt: skip
def test_three_islands_outlive_each_other(
    tmp_path: Path, undisturbed: Callable[[int], Run], kind: str, every_s: float, least: int,
    seed: int,
) -> None:  # fmt: skip
    grace_s = 0.5 if kind == "slow" else 20.0  # who is slow is not waited for
    fleet = Fleet(
        worlds=3, islands=3, quorum=0.6, grace_s=grace_s, chaos={kind: every_s}, chaos_seed=seed
    )
    # Who is late brings to the last turn what it trained in a round.
    over = OUTER.interval if kind == "slow" else 1
    _drilled(undisturbed(3), tmp_path / "run", fleet, least, over)
