"""A Slurm of two pretended nodes on this machine: its own ports, folder, key and processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crore.serve.child import free_port

NODES = ("n1", "n2")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
# cred_expire is also how long a requeued job waits: a node refuses a job that comes back within the
# second in which it was revoked. Its default is 120 s.
CONFIGURATION = """\
ClusterName=pretended
SlurmUser=root
SlurmctldHost={host}(127.0.0.1)
AuthInfo=socket={folder}/munge,cred_expire=5
FirstJobId={first}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
KillWait=10
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=2000"


def missing() -> str:
    """Return what a pretended Slurm lacks here; empty for nothing."""
    lacking = [it for it in PROGRAMS if not shutil.which(it)]
    if lacking:
        return f"no {', '.join(lacking)} (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "Slurm's programs run as root"


class Slurm:
    """Two nodes and what they run; every process is ended by its own number."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Write the configuration and start everything; returns when both nodes are idle."""
        host = socket.gethostname().partition(".")[0]
        ports = free_ports(len(NODES) + 1)
        nodes = [
            NODE.format(name=it, host=host, port=at)
            for it, at in zip(NODES, ports[1:], strict=True)
        ]
        text = CONFIGURATION.format(
            host=host, folder=self.folder, port=ports[0], nodes="\n".join(nodes),
            first=1 + os.getpid() % 60000,
        )  # fmt: skip
        (self.folder / "state").mkdir()
        self.conf.write_text(text, encoding="utf-8")
        (self.folder / "cgroup.conf").write_text("", encoding="utf-8")
        self._munge()
        self._run("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.told("sinfo", "-h", "-o", "%D %T") == "2 idle\n", 60, "both idle")

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self._run(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut would: its daemon, its steps and their ranks, unheard."""
        daemon = self.running.pop(node)
        ranks = self.processes(SLURMD_NODENAME=node)
        steps = {parent_of(rank) for rank in ranks} - {os.getpid(), 1}
        for process in (daemon.pid, *steps, *ranks):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        daemon.wait(timeout=30)

    def processes(self, **environment: str) -> set[int]:
        """Return the processes of this Slurm's jobs that have those variables."""
        wanted = {f"{key}={value}" for key, value in environment.items()}
        wanted.add(f"SLURM_CONF={self.conf}")
        found = set()
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                held = (entry / "environ").read_text(errors="replace").split("\0")
                if entry.name.isdecimal() and wanted <= set(held):
                    found.add(int(entry.name))
        return found

    def told(self, *words: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(
            words, env=self._environment(), capture_output=True, text=True, check=False, timeout=90
        )
        return done.stdout

    def submit(self, job: Path, script: str, **environment: str) -> str:
        """Submit a batch file from its folder; return the job's number."""
        said: str = subprocess.check_output(
            ["sbatch", script], cwd=job, text=True, env=self._environment() | environment
        )
        return said.rsplit(maxsplit=1)[-1]

    def state(self, number: str) -> str:
        """Return a job's state: PENDING, RUNNING, COMPLETED …"""
        found = re.search(r"JobState=(\w+)", self.told("scontrol", "show", "job", number))
        return found[1] if found else ""

    def ends(self, number: str, patience_s: float) -> str:
        """Wait until a job is over; return its state."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT")
        wait_for(lambda: self.state(number) in over, patience_s, f"the end of job {number}")
        return self.state(number)

    def stop(self) -> None:
        """End every job and every process."""
        self.told("scancel", "--user=root")
        wait_for(lambda: not self.told("squeue", "-h"), 60, "an empty queue")
        for process in reversed(self.running.values()):
            process.terminate()
            process.wait(timeout=60)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def _munge(self) -> None:
        key = self.folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"socket": "munge", "key-file": "key", "log-file": "munge.log",
                 "pid-file": "munge.pid", "seed-file": "munge.seed"}  # fmt: skip
        words = [f"--{option}={self.folder / name}" for option, name in files.items()]
        self._run("munged", "munged", "--foreground", "--force", *words)
        wait_for((self.folder / "munge").exists, 30, "munged")

    def _run(self, name: str, *words: str) -> None:
        self.running[name] = subprocess.Popen(
            words, env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, nor is given before a program has started."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)


def parent_of(process: int) -> int:
    """Return a process's parent; 1 for one that is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 1


def wait_for(holds: Callable[[], object], patience_s: float, what: str) -> None:
    """Return when something holds; AssertionError when it does not in time."""
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, f"{what}: not within {patience_s:g} s"
        time.sleep(0.2)
