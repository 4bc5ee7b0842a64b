"""An answer that cannot be written is one line on stderr, whatever stands in its way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CRORE = f"{sys.executable} -m crore"
COMMANDS = ("--help", "--version", "catalog gpus", "plan gpt2 --gpu h100 --gpus 8")


def shell(script, buffered):
    """Run a script in bash; Python's own buffering decides whether a write or a flush fails."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("target", "reason"), [("/dev/full", "No space left on device"), ("&-", "stdout is closed")]
)
def test_an_answer_that_cannot_be_written_is_one_line(command, target, reason):
    done = shell(f"{CRORE} {command} >{target}", buffered=True)
    assert done.stderr == f"crore: cannot write the answer: {reason}\n"
    assert done.returncode == 2


@pytest.mark.parametrize("buffered", [True, False])
def test_it_makes_no_difference_when_python_writes(buffered):
    done = shell(f"{CRORE} catalog gpus >/dev/full", buffered)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_mistake_is_told_before_the_closed_stdout():
    done = shell(f"{CRORE} plam >&-", buffered=True)
    assert (done.returncode, "did you mean plan, " in done.stderr) == (2, True)


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_left_is_141_and_silence(buffered):
    script = f"{CRORE} catalog models | (exec 0<&-; sleep 2); echo ${{PIPESTATUS[0]}}"
    done = shell(script, buffered)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_an_ascii_terminal_still_gets_its_help():
    done = shell(f"PYTHONIOENCODING=ascii {CRORE} plan --help", buffered=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "bf16, fp8, ?" in done.stdout
