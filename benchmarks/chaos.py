"""What a fleet on this machine lives through, and what it costs: faults, goodput, idle cost.

python -m benchmarks.chaos                 all of it, about an hour on two cores
python -m benchmarks.chaos faults          50 kills over 3 worlds and over 3 islands; other faults
python -m benchmarks.chaos kills           of these the kills between islands alone
python -m benchmarks.chaos words           kills and hangs between islands, on words in random order
python -m benchmarks.chaos goodput         goodput under kills against the simulator's
python -m benchmarks.chaos idle            tokens per second with fault tolerance, and without
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.train.fault.fleet import job_for as small_job
from tests.train.fault.fleet import prepared, random_words
from tests.train.fault.fleet import run as run_small

from crore.model.split import Split
from crore.simulate.failures import Hazard, catalogue_run, failures_only, goodput
from crore.train.fault.audit import Audit, audit
from crore.train.fault.supervisor import Fleet
from crore.train.folder import LOG
from crore.train.history import Run, read_run
from crore.train.islands.settings import Outer
from crore.train.job import Job
from crore.train.records import Step
from crore.train.schedule import first_sample
from crore.train.start import start

KILL_EVERY_S: Final = 5.0
KILLED_STEPS: Final = {1: 3000, 3: 3800}
"""Islands -> steps of the run that is killed fifty times."""
WORDS: Final = {"kill": (3.0, 220.0, 2400), "hang": (3.0, 60.0, 700)}
"""Kind -> seconds between two faults, seconds of them all, steps."""
OTHERS: Final = {"hang": 20.0, "slow": 40.0, "corrupt": 20.0, "lighthouse": 20.0}
WARM: Final = 20
"""First steps that no speed is measured on."""


def job_for(folder: Path, *, layers: int = 2, ranks: int = 1, **more: Any) -> Job:
    """Return a job of the smallest model with its text prepared."""
    return prepared(
        small_job(
            folder, split=Split(zero=1, dp_replicate=ranks), layers=layers, evaluation_rows=64,
            checkpoint_every=50, **more,
        )
    )  # fmt: skip


def carried_out(job: Job, fleet: Fleet) -> tuple[Run, Audit]:
    """Run a fleet to its end; return its records and what they show."""
    outcome = run_small(job, fleet)
    assert outcome.reason == "finished", outcome
    return read_run(job.folder / LOG), audit(job.folder, worlds=fleet.worlds, islands=fleet.islands)


def faults(folder: Path) -> Iterator[str]:
    """Yield the table of faults: three worlds of one island, and three islands."""
    yield (
        "| fleet | fault | faults | others went on, s: median, p90, worst | back, s: median | "
        "steps behind when back | samples twice, steps at odds | lost with islands, % | "
        "in the weights, % | weights at the end | loss, % off |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for islands in (1, 3):
        yield from _faults(folder, islands, {"kill": KILL_EVERY_S, **OTHERS})


def kills(folder: Path) -> Iterator[str]:
    """Yield the row of kills between islands."""
    yield from _faults(folder, 3, {"kill": KILL_EVERY_S})


def words(folder: Path) -> Iterator[str]:
    """Yield rows of many faults between islands, on a text that no seed learns more of."""
    outer = Outer(interval=10, bits=4, lr=1.0, momentum=0.5)
    text = random_words(folder / "words.txt")

    def carried(name: str, steps: int, fleet: Fleet) -> tuple[Job, Run, Audit]:
        job = small_job(folder / name, steps=steps, outer=outer, evaluation_rows=64, source=text)
        return job, *carried_out(prepared(job), fleet)

    usual = Fleet(worlds=3, islands=3, quorum=0.6, grace_s=20.0, chaos_seed=1)
    for kind, (every_s, for_s, steps) in WORDS.items():
        _, calm, _ = carried(f"calm-{kind}", steps, usual)
        fleet = replace(usual, chaos={kind: every_s}, chaos_s=for_s)
        job, run, found = carried(kind, steps, fleet)
        yield _row(3, kind, run, found, calm.evals[-1].loss, job)


def _faults(folder: Path, islands: int, kinds: dict[str, float]) -> Iterator[str]:
    outer = Outer(interval=10, bits=4) if islands > 1 else None
    calm = _calm(folder / f"calm-{islands}", outer, islands)
    for kind, every_s in kinds.items():
        steps = KILLED_STEPS[islands] if kind == "kill" else 600
        job = job_for(folder / f"{kind}-{islands}", steps=steps, outer=outer)
        fleet = Fleet(
            worlds=3, islands=islands, quorum=0.6, grace_s=20.0, chaos={kind: every_s},
            chaos_seed=1,
        )  # fmt: skip
        run, found = carried_out(job, fleet)
        yield _row(islands, kind, run, found, calm(steps), job)


def _calm(folder: Path, outer: Outer | None, islands: int) -> Callable[[int], float]:
    """Return a function from steps to the loss of an undisturbed run, each made once."""
    known: dict[int, float] = {}

    def loss(steps: int) -> float:
        if steps not in known:
            job = job_for(folder / str(steps), steps=steps, outer=outer)
            if outer is None:
                assert start(job).exit_code == 0
                known[steps] = read_run(job.folder / LOG).evals[-1].loss
            else:
                run, _ = carried_out(job, Fleet(worlds=3, islands=islands))
                known[steps] = run.evals[-1].loss
        return known[steps]

    return loss


def _row(islands: int, kind: str, run: Run, found: Audit, calm: float, job: Job) -> str:
    on = sorted(hit.went_on_s for hit in found.hits if hit.went_on_s is not None) or [0.0]
    back = [hit.back_s for hit in found.hits if hit.back_s is not None] or [0.0]
    behind = max((hit.back_behind or 0 for hit in found.hits), default=0)
    said = sum("killed" in event.message for event in run.events if event.what == "chaos")
    count = len(found.hits) if kind != "lighthouse" else said
    assert run.end is not None
    assert islands == 1 or found.merged == run.end.samples  # the islands' own account
    off = 100 * (run.evals[-1].loss / calm - 1)
    planned = first_sample(job.ramp, job.steps)
    lost = 100 * (1 - found.merged / found.handed_out)
    fleet = "3 islands" if islands > 1 else "3 worlds"
    same = "equal" if len(set(found.checksums.values())) == 1 else "DIFFER"
    return (
        f"| {fleet} | {kind} | {count} | {statistics.median(on):.1f}, "
        f"{on[int(0.9 * (len(on) - 1))]:.1f}, {on[-1]:.1f} | {statistics.median(back):.1f} | "
        f"{behind} | {len(found.problems)} | {lost:.1f} | {100 * found.merged / planned:.2f} | "
        f"{same} | {off:+.2f} |"
    )


def under_kills(folder: Path) -> Iterator[str]:
    """Yield goodput under kills: measured, and by the simulator for that kill rate.

    Two worlds with a core each. Stall and absence are measured in another run with other kills.
    """
    calm, _ = carried_out(_two(folder / "calm", 400), Fleet(worlds=2))
    full = _rate(calm.steps)
    yield f"undisturbed: {full:.1f} samples/s"
    _, other = carried_out(_two(folder / "other", 800), _killed(7))
    run, found = carried_out(_two(folder / "run", 1500), _killed(8))
    stall_s = statistics.mean(hit.went_on_s for hit in other.hits if hit.went_on_s is not None)
    absent_s = statistics.mean(hit.back_s for hit in other.hits if hit.back_s is not None)
    wall_s = _seconds(run.steps)
    measured = _rate(run.steps) / full
    usual = catalogue_run(gpus=2, world_gpus=1, islands=1, step_s=0.1, round_s=1.0)
    rate = len(found.hits) / wall_s / 2
    kills = Hazard(name="kills", domain="gpu", domain_gpus=1, per_gpu_s=rate)
    model = replace(
        failures_only(usual), hazards=(kills,), stall_s=stall_s,
        absent_s=max(absent_s - stall_s, 0.0),
    )  # fmt: skip
    told = float(goodput(model, "quorum").goodput)
    yield (
        f"{len(found.hits)} kills in {wall_s:.0f} s; of {len(other.hits)} other kills: stall "
        f"{stall_s:.2f} s, absent {absent_s:.1f} s"
    )
    yield (
        f"goodput measured {measured:.3f}, simulator {told:.3f}: "
        f"{100 * (measured - told):+.1f} points"
    )


def _two(folder: Path, steps: int) -> Job:
    return job_for(folder, steps=steps, batch=16, seq_len=128, layers=4)


def _killed(seed: int) -> Fleet:
    return Fleet(worlds=2, chaos={"kill": 25.0}, chaos_seed=seed)


def _seconds(steps: tuple[Step, ...]) -> float:
    first, last = (dt.datetime.fromisoformat(steps[n].time) for n in (WARM, -1))
    return (last - first).total_seconds()


def _rate(steps: tuple[Step, ...]) -> float:
    return sum(step.samples for step in steps[WARM + 1 :]) / _seconds(steps)


def idle(folder: Path) -> Iterator[str]:
    """Yield tokens per second with fault tolerance on and nothing failing, over those without it.

    Two worlds of one rank against one world of two ranks, turn about.
    """
    ratios = []
    for turn in range(3):
        plain = job_for(folder / f"plain-{turn}", steps=200, batch=16, seq_len=128, layers=4,
                        ranks=2)  # fmt: skip
        assert start(plain).exit_code == 0
        off = _rate(read_run(plain.folder / LOG).steps)
        run, _ = carried_out(_two(folder / f"fault-{turn}", 200), Fleet(worlds=2))
        ratios.append(_rate(run.steps) / off)
        yield f"turn {turn}: off {off:.1f} samples/s, on / off {ratios[-1]:.3f}"
    yield f"median on / off {statistics.median(ratios):.3f}"


PARTS: Final = {
    "faults": faults,
    "kills": kills,
    "words": words,
    "goodput": under_kills,
    "idle": idle,
}
ALL: Final = ("faults", "goodput", "idle")


def main(asked: list[str]) -> None:
    """Print the parts that are named, all of them if none is."""
    for name in asked or ALL:
        print(f"\n## {name}\n", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for line in PARTS[name](Path(folder)):
                print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
