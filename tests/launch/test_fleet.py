"""The files of a fleet train it; a lighthouse runs until it is ended, and again when it dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.launch.pretended import free_ports

from crore.launch import export
from crore.launch.fleet import lighthouse, shell_checks

SOURCE = Path(__file__).parents[2] / "src"
PLAN = (
    "plan nano-1m --gpu cpu-2core --gpus 2 --limit world_gpus=1 --tokens 8k --seq-len 256 "
    "--global-batch 8 --precision fp32 --stack crore -o plan.json"
)
QUIET = ("--quiet", "--sample-every=0", "--evaluate-every=0")
GIVE_UP_S = 120.0
"""Nothing here takes longer, however busy the machine."""
PYTHON = """\\
#!/bin/bash
# In Python's place: says what it was asked, then ends as it is told, or waits.
trap 'echo ended >> "$(dirname "$0")/asked"; exit 0' TERM
echo "$*" >> "$(dirname "$0")/asked"
[ -f "$(dirname "$0")/code" ] && exit "$(cat "$(dirname "$0")/code")"
while true; do sleep 0.05; done
"""


@pytest.fixture
def folder(make, tmp_path) -> Path:
    """The script, and something in Python's place."""
    (tmp_path / "python").write_text(PYTHON, encoding="utf-8")
    (tmp_path / "python").chmod(0o755)
    [file] = lighthouse(make("fleet"))
    assert file.runs
    (tmp_path / file.name).write_text(file.text, encoding="utf-8")
    return Path(tmp_path)


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start the lighthouse."""
    return subprocess.Popen(
        ["bash", "lighthouse.sh", *words], cwd=folder, text=True, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(folder / "python")},
    )  # fmt: skip


def asked(folder: Path, lines: int) -> list[str]:
    """Wait until so many lines are said, and return them."""
    end_s = time.monotonic() + GIVE_UP_S
    while True:
        path = folder / "asked"
        said = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if len(said) >= lines:
            return said
        assert time.monotonic() < end_s, said
        time.sleep(0.05)


def test_it_runs_until_it_is_ended(folder):
    with start(folder, "--min-worlds", "3") as process:
        assert asked(folder, 1) == ["-m crore lighthouse --port 29510 --min-worlds 3"]
        process.terminate()
        assert process.wait(timeout=GIVE_UP_S) == 0
        assert asked(folder, 2)[1] == "ended"


def test_one_that_dies_is_started_again_and_one_asked_wrongly_is_not(folder):
    (folder / "code").write_text("1", encoding="utf-8")
    with start(folder) as process:
        assert len(set(asked(folder, 2))) == 1
        (folder / "code").write_text("2", encoding="utf-8")
        assert process.wait(timeout=GIVE_UP_S) == 2


@pytest.mark.parametrize("target", ["torchrun", "slurm", "kubernetes", "skypilot"])
def test_one_world_has_no_lighthouse(make, target):
    made = export(target, make("dense"), "{}")
    said = " ".join((*made.run, *(f"{file.name} {file.text}" for file in made.files)))
    assert "lighthouse" not in said.lower()
    assert shell_checks(make("dense")) == ""


@pytest.mark.drill
@pytest.mark.skipif(find_spec("torchft") is None, reason="pip install 'crore[ft]'")
def test_two_worlds_train_as_one_from_the_files(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(SOURCE)}
    for words in (PLAN, "launch plan.json --to torchrun -o job"):
        subprocess.run(
            [sys.executable, "-m", "crore", *words.split()],
            cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    job, [port] = tmp_path / "job", free_ports(1)
    environment |= {"PORT": str(port), "ISLAND_LIGHTHOUSE": f"127.0.0.1:{port}"}
    lighthouse = subprocess.Popen([job / "lighthouse.sh"], env=environment)
    try:
        worlds = [
            subprocess.Popen([job / "torchrun.sh", *QUIET], env={**environment, "WORLD": str(n)})
            for n in range(2)
        ]
        assert [world.wait(timeout=300) for world in worlds] == [0, 0]
    finally:
        lighthouse.terminate()
        assert lighthouse.wait(timeout=GIVE_UP_S) == 0
    ends = [last_record(job / "run" / f"world-{n:05d}") for n in range(2)]
    assert [end["reason"] for end in ends] == ["finished", "finished"]
    assert ends[0]["checksum"] == ends[1]["checksum"]
    assert list((job / "run").glob("island-000/checkpoint/step-*"))


def last_record(folder: Path) -> dict[str, object]:
    """Return the last line of a world's log."""
    [log] = folder.glob("run*.jsonl")
    record: dict[str, object] = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return record
