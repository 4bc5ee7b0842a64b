"""What a new user meets: short help, fast answers, one-line errors, nothing left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from crore.errors import MAX_MESSAGE_CHARS

ROOT = Path(__file__).parents[1]
HELP_LINES, HELP_CPU_S = 40, 0.4
# A user without a network: any attempt to open a socket is an error.
OFFLINE = """\
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("crore opened a socket")
socket.socket = socket.create_connection = refuse
from crore.__main__ import main
sys.argv = ["crore", *sys.argv[1:]]
main()
"""


def crore(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line offline, in its own session, and check that nothing outlives it."""
    process = subprocess.Popen(
        [sys.executable, "-c", OFFLINE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        start_new_session=True,
    )
    out, err = process.communicate(timeout=300)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def children_cpu_s() -> float:
    """Return the CPU time of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["plan"],
        ["explain"],
        ["compare"],
        ["fit"],
        ["supply"],
        ["sites"],
        ["train"],
        ["launch"],
        ["calibrate"],
        ["check"],
        ["validate"],
        ["catalog"],
    ],
    ids=" ".join,
)
def test_help_fits_a_screen(command, tmp_path):
    done = crore(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) <= HELP_LINES
    assert max(map(len, lines)) <= 80
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_help_is_fast(tmp_path):
    def once() -> float:
        before = children_cpu_s()
        crore("--help", cwd=tmp_path)
        return children_cpu_s() - before

    assert min(once() for _ in range(3)) <= HELP_CPU_S


def test_no_arguments_show_the_help(tmp_path):
    assert crore(cwd=tmp_path).stdout == crore("--help", cwd=tmp_path).stdout


def test_the_version_is_the_packages(tmp_path):
    from crore import __version__

    assert crore("--version", cwd=tmp_path).stdout == f"crore {__version__}\n"


PLAN = ("plan", "llama-3.1-405b", "--gpu", "h100-sxm", "--gpus", "16k")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("plan", "llama-3.1-405b", "--gpu", "h1000-sxm", "--gpus", "8"), 2, "h100-sxm"),
        (("plan", "llama-3.1-406b", "--gpu", "h100-sxm", "--gpus", "8"), 2, "llama-3.1-405b"),
        (("plan", "llama-3.1-405b", "--gpu", "h100-sxm", "--gpus", "-5"), 2, "did you mean 5?"),
        (("plan", "llama-3.1-405b", "--gpu", "rtx-3090", "--gpus", "8"), 1, "GB"),
        (("plan", "ten_milion", "--gpu", "h100-sxm", "--gpus", "8"), 2, "ten_million"),
        (("plan", "llama-3.1-405b"), 2, "needs --gpu and --gpus"),
        (("plan",), 2, "MODEL|MISSION"),
        (("plam", "x"), 2, "did you mean plan, "),
        ((*PLAN, "--gpuss", "8"), 2, "did you mean --gpus"),
        ((*PLAN, "--fix", "dp=8"), 2, "dp_shard"),
        ((*PLAN, "--fix", "="), 2, "one of: tp, pp,"),
        ((*PLAN, "--fix", "schedule=foo"), 2, "one of: gpipe, 1f1b,"),
        ((*PLAN, "--fix", "recompute=foo"), 2, "one of: none, light, selective, full"),
        ((*PLAN, "--fix", "offload=foo"), 2, "one of: none, optimizer, activations"),
        ((*PLAN, "--fix", "optimizer=foo"), 2, "one of: adamw, muon"),
        ((*PLAN, "--stack", "foo"), 2, "one of: megatron-2021,"),
        ((*PLAN, "--precision", "foo"), 2, "one of: fp32, fp16, bf16,"),
        (("plan", "llama-3.1-405b", "--gpu"), 2, "(all: crore plan --help)"),
        (("validate", "--catalog"), 2, "(all: crore validate --help)"),
        (("plan", "llama-3.1-405b", "--gpu", "h100-sxm", "--gpus", "8,0"), 2, "not '8,0'"),
        (("plan", "", "--gpu", "h100-sxm", "--gpus", "8"), 2, "unknown model or mission ''"),
        (("catalog", "models", ""), 2, "unknown model ''"),
        ((*PLAN, "--fix", "tp"), 2, "needs a value, for example tp=1"),
        ((*PLAN, "--fix", "tp=8,tp=4"), 2, "names tp twice"),
        ((*PLAN, "--fix", "zero=4"), 2, "0, 1, 2 or 3"),
        ((*PLAN, "--tokens", "lots"), 2, "--tokens must be"),
        ((*PLAN, "--precision", "bf17"), 2, "bf16"),
        ((*PLAN, "--stack", "megatron-2052"), 2, "megatron-2025"),
        ((*PLAN, "--catalog", "none.toml"), 2, "none.toml"),
        ((*PLAN, "-o", "no/such/folder/plan.json"), 2, "cannot write"),
        (("validate", "none.jsonl"), 2, "none.jsonl"),
        (("catalog", "gpu"), 2, "gpus"),
        (("catalog", "gpus", "h100-smx"), 2, "h100-sxm"),
        (("plan", "x" * 5000, "--gpu", "h100-sxm", "--gpus", "8"), 2, "unknown model"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_a_bad_input_is_one_line_with_a_way_out(arguments, code, expected, tmp_path):
    done = crore(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert len(done.stderr.rstrip("\n")) <= MAX_MESSAGE_CHARS
    assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_quietly_with_130(tmp_path):
    os.mkfifo(tmp_path / "runs.jsonl")
    command = [sys.executable, "-m", "crore", "validate", "runs.jsonl"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        writer = open_when_read(tmp_path / "runs.jsonl", process)  # crore waits for a first line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
        os.close(writer)
    assert process.returncode == 130
    assert b"Traceback" not in err


def open_when_read(pipe: Path, reader: subprocess.Popen[bytes]) -> int:
    """Open a named pipe for writing as soon as its reader has arrived."""
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert reader.poll() is None, "the reader left without reading"
            time.sleep(0.05)


def test_a_closed_pipe_is_no_error(tmp_path):
    shell = f"{sys.executable} -m crore catalog models | head -1"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stderr == ""
    assert done.stdout.startswith("model ")


def test_the_wheel_holds_every_file_and_works_in_an_empty_folder(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    made = subprocess.run([*build, str(ROOT)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "installed")
    source = ROOT / "src"
    shipped = {
        str(path.relative_to(source))
        for path in (source / "crore").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed = tmp_path / "installed"
    assert {
        str(p.relative_to(installed)) for p in (installed / "crore").rglob("*") if p.is_file()
    } == shipped

    empty = tmp_path / "empty"
    empty.mkdir()
    command = [sys.executable, "-m", "crore", "catalog", "gpus", "h100-sxm"]
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=empty, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(empty.iterdir()) == []
