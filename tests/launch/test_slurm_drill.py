"""A Slurm of two pretended nodes runs the batch file, and what may come while it runs."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.launch.pretended import Slurm, missing, wait_for

from crore.launch import export, write_launch

SOURCE = Path(__file__).parents[2] / "src"
PLAN = (
    "plan nano-1m --gpu cpu-2core --gpus 2 --tokens 50k --seq-len 256 --global-batch 8 "
    "--precision fp32 --stack crore -o plan.json"
)
pytestmark = pytest.mark.drill


@pytest.fixture
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    """A Slurm that runs; skips where there is none."""
    if lacking := missing():
        pytest.skip(f"no Slurm here: {lacking}")
    made = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def job(tmp_path, monkeypatch) -> Path:
    """The folder of a launch of two nodes with a rank each."""
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    for words in (PLAN, "launch plan.json --to slurm --gpus-per-node 1 -o job"):
        crore = [sys.executable, "-m", "crore", *words.split()]
        subprocess.run(crore, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    folder: Path = tmp_path / "job"
    return folder


def records(run: Path) -> list[dict[str, Any]]:
    """Return what a run has logged so far."""
    path = run / "run.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps(run: Path) -> list[int]:
    """Return the steps that a run has logged so far, in that order."""
    return [it["step"] for it in records(run) if it["kind"] == "step"]


def starts(run: Path) -> list[int]:
    """Return the steps that were done when a run began and each time it went on."""
    return [it["step"] for it in records(run) if it["kind"] == "start"]


def losses(run: Path) -> dict[int, float]:
    """Return the loss of each step, the last time it was done."""
    return {it["step"]: it["loss"] for it in records(run) if it["kind"] == "step"}


def weights(run: Path) -> dict[str, str]:
    """Return the hashes of what the last checkpoint holds of each rank."""
    last = max((run / "checkpoint").glob("step-*"))
    return {it.name: hashlib.sha256(it.read_bytes()).hexdigest() for it in last.glob("*.distcp")}


def train(slurm: Slurm, number: str, run: Path) -> None:
    """Wait until a job has saved a checkpoint on its way and done two steps more."""

    def begun() -> bool:
        assert slurm.state(number) in ("PENDING", "RUNNING"), said(run.parent)
        saved = max((it["step"] for it in records(run) if it["kind"] == "checkpoint"), default=0)
        return saved > 0 and steps(run)[-1] > saved + 1

    wait_for(begun, 300, "steps")


def said(job: Path) -> str:
    """Return what the jobs of a folder printed."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(job.glob("*.log")))


def test_a_job_near_its_limit_saves_queues_again_and_ends(slurm, job):
    number = slurm.submit(job, "world.sbatch")
    train(slurm, number, job / "run")
    slurm.told("scancel", "--batch", "--signal=USR1", number)  # what Slurm sends before the limit
    wait_for(lambda: slurm.state(number) == "PENDING", 120, "the queue")
    assert records(job / "run")[-1]["reason"] == "signal"
    assert slurm.ends(number, 300) == "COMPLETED", said(job)
    assert records(job / "run")[-1]["reason"] == "finished"
    done = steps(job / "run")
    assert len(starts(job / "run")) == 2
    assert done == list(range(1, len(done) + 1))  # no step was lost, none was done twice


def test_a_job_whose_node_dies_queues_again_and_trains_what_it_would_have(slurm, job):
    calm = slurm.submit(job, "world.sbatch", OUT="calm")
    assert slurm.ends(calm, 300) == "COMPLETED", said(job)
    number = slurm.submit(job, "world.sbatch")
    train(slurm, number, job / "run")
    reached = steps(job / "run")[-1]
    slurm.kill_node("n2")
    slurm.told("scontrol", "update", "nodename=n2", "state=down", "reason=drill")
    wait_for(lambda: slurm.state(number) == "PENDING", 120, "the queue")
    assert "n2" in slurm.told("sinfo", "-h", "-t", "down", "-o", "%N")
    slurm.start_node("n2")
    slurm.told("scontrol", "update", "nodename=n2", "state=resume")
    assert slurm.ends(number, 300) == "COMPLETED", said(job)
    assert records(job / "run")[-1]["reason"] == "finished"
    first, again = starts(job / "run")
    assert first == 0 < again < reached  # from its checkpoint: what was lost is done again
    assert losses(job / "run") == losses(job / "calm")
    assert weights(job / "run") == weights(job / "calm")


TRAINER = """\
#!/bin/bash
# In Python's place: everything imports, and a world trains until it is asked to leave or told to.
[ "$1" = -c ] && exit 0
asked=$*
while [ "$1" != --world ]; do shift; done
out=${!#}/world-$2
mkdir -p "$out"
echo "$asked" >> "$out/starts"
trap 'echo yes >> "$out/asked"; exit 0' TERM
while [ ! -f "$out/go" ]; do sleep 0.2; done
exit "$(cat "$out/go")"
"""


def test_worlds_of_an_array_queue_again_and_die_alone(slurm, make, tmp_path, monkeypatch):
    launch = replace(make("processor"), worlds=2)
    job = tmp_path / "island"
    write_launch(job, launch, export("slurm", launch, "{}"), "{}", {})
    trainer = tmp_path / "trainer"
    trainer.write_text(TRAINER, encoding="utf-8")
    trainer.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(trainer))
    monkeypatch.setenv("ISLAND_LIGHTHOUSE", "127.0.0.1:29510")
    array = slurm.told(str(job / "island.sh"), "0").split()[-1]
    runs = [job / "run" / f"world-{world}" for world in range(2)]

    def held(world: int, name: str) -> int:
        path = runs[world] / name
        return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0

    wait_for(lambda: held(0, "starts") == held(1, "starts") == launch.layout.ranks, 120, "worlds")
    assert "--world 1 --lighthouse 127.0.0.1:29510" in (runs[1] / "starts").read_text()
    # The world whose job's number is also the array's: what is done to that number is done to all.
    shown = slurm.told("scontrol", "show", "job", array)
    first = int(re.findall(rf"JobId={array} ArrayJobId={array} ArrayTaskId=(\d)", shown)[0])
    other = 1 - first
    slurm.told("scancel", "--batch", "--signal=USR1", f"{array}_{first}")
    wait_for(lambda: held(first, "starts") == 2 * launch.layout.ranks, 120, "the world again")
    assert held(first, "asked") == launch.layout.ranks
    assert not held(other, "asked")
    assert slurm.state(f"{array}_{other}") == "RUNNING"
    (runs[other] / "go").write_text("3", encoding="utf-8")
    assert slurm.ends(f"{array}_{other}", 120) == "FAILED"
    assert slurm.state(f"{array}_{first}") == "RUNNING"
    (runs[first] / "go").write_text("0", encoding="utf-8")
    assert slurm.ends(f"{array}_{first}", 120) == "COMPLETED", said(job)
