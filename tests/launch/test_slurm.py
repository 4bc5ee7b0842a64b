"""The batch file asks for what the plan has, and is executed by a Slurm of two pretended nodes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crore.launch import export

SOURCE = Path(__file__).parents[2] / "src"


def directives(text: str) -> dict[str, str]:
    """Return the #SBATCH lines."""
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.M))


def script(launch) -> str:
    """Return the batch file."""
    return export("slurm", launch, "{}").files[0].text


def test_a_job_asks_for_the_plans_nodes_and_cards(make):
    asked = directives(script(make("405b")))
    assert asked["nodes"] == "2048"
    assert asked["ntasks-per-node"] == "8"
    assert asked["gres"] == "gpu:8"
    assert "requeue" in asked
    assert asked["signal"].startswith("B:USR1@")
    assert "gres" not in directives(script(make("processor")))


def test_an_island_is_an_array_of_worlds(make):
    launch = make("fleet")
    made = export("slurm", launch, "{}")
    last = launch.worlds // launch.islands - 1
    assert any(f"--array=0-{last} " in line for line in made.run)
    assert any("MaxArraySize" in line for line in made.needs)
    assert "SLURM_ARRAY_TASK_ID" in script(launch)
    assert not any("MaxArraySize" in line for line in export("slurm", make("405b"), "{}").needs)


@pytest.mark.parametrize("name", ["dense", "fleet", "processor"])
def test_it_is_bash(make, name):
    done = subprocess.run(["bash", "-n"], input=script(make(name)), text=True, check=False)
    assert done.returncode == 0


CONFIGURATION = """\
ClusterName=pretended
SlurmUser=root
SlurmctldHost={host}(127.0.0.1)
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SlurmctldPort=16827
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17011 CPUs=4 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17012 CPUs=4 RealMemory=2000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Run Slurm with two pretended nodes on this machine (Debian: slurm-wlm, munge; as root)."""
    missing = [it for it in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(it)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"no Slurm here ({', '.join(missing) or 'not root'})")
    host = socket.gethostname().partition(".")[0]
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    text = CONFIGURATION.format(host=host, folder=folder)
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    (folder / "cgroup.conf").write_text("", encoding="utf-8")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    if subprocess.run(["munge", "-n"], stdout=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no munged is running")
    daemons = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for words in (
            ["slurmctld", "-D"],
            ["slurmd", "-D", "-N", "n1"],
            ["slurmd", "-D", "-N", "n2"],
        )
    ]
    try:
        yield wait_for(lambda: "idle" in told("sinfo", "-h", "-o", "%D %T"), 60)
    finally:
        told("scancel", "-u", "root")
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=60)


def told(*words: str) -> str:
    """Return what a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def wait_for(holds, patience_s: float) -> bool:
    """Return True when something holds; fails when it does not in time."""
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, holds
        time.sleep(0.2)
    return True


def records(job: Path) -> list[dict[str, object]]:
    """Return what a run has logged so far."""
    path = job / "run" / "run.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


@pytest.mark.drill
@pytest.mark.usefixtures("slurm")
def test_a_job_near_its_limit_saves_queues_again_and_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    job = tmp_path / "job"
    plan = "plan nano-1m --gpu cpu-2core --gpus 2 --tokens 120k --seq-len 256 --global-batch 8"
    for words in (
        f"{plan} --precision fp32 --stack crore -o plan.json",
        "launch plan.json --to slurm --gpus-per-node 1 -o job",
    ):
        crore = [sys.executable, "-m", "crore", *words.split()]
        subprocess.run(crore, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    number = re.findall(
        r"\d+", subprocess.check_output(["sbatch", "world.sbatch"], cwd=job, text=True)
    )
    wait_for(lambda: sum(it["kind"] == "step" for it in records(job)) > 5, 120)
    told("scancel", "--batch", "--signal=USR1", *number)  # what Slurm sends before the limit
    wait_for(lambda: "PENDING" in told("squeue", "-h", "-o", "%T"), 60)
    assert records(job)[-1]["reason"] == "signal"
    told("scontrol", "update", f"job={number[0]}", "StartTime=now")
    wait_for(lambda: "JobState=COMPLETED" in told("scontrol", "show", "job", number[0]), 150)
    logged = records(job)
    said = "".join(path.read_text(encoding="utf-8") for path in job.glob("*.log"))
    assert logged[-1]["reason"] == "finished", said
    steps = [it["step"] for it in logged if it["kind"] == "step"]
    assert sorted(set(map(str, steps)), key=int) == [str(n + 1) for n in range(len(set(steps)))]
