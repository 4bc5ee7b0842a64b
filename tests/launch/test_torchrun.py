"""The torchrun script names the plan's numbers, and runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crore.launch import export

SOURCE = Path(__file__).parents[2] / "src"


def script(launch) -> str:
    """Return the script."""
    return export("torchrun", launch, "{}").files[0].text


def test_nodes_ranks_and_device_are_the_plans(make):
    text = script(make("405b"))
    assert "--nnodes 2048 --nproc-per-node 8 --max-restarts 3" in text
    assert "crore train plan.json --device cuda" in text
    assert "RDZV_ENDPOINT:?" in text
    assert "--device cpu" in script(make("processor"))


@pytest.mark.parametrize("name", ["dense", "fleet", "processor"])
def test_it_is_bash(make, name):
    done = subprocess.run(["bash", "-n"], input=script(make(name)), text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("dense", ["RDZV_ENDPOINT"]),
        ("fleet", ["WORLD", "ISLAND_LIGHTHOUSE", "FLEET_LIGHTHOUSE", "RDZV_ENDPOINT"]),
    ],
)
def test_what_is_missing_is_said_before_anything_starts(make, tmp_path, name, needed):
    (tmp_path / "torchrun.sh").write_text(script(make(name)), encoding="utf-8")
    for missing in needed:
        given = {it: "7" for it in needed if it != missing}
        done = subprocess.run(
            ["bash", str(tmp_path / "torchrun.sh")], env={"PATH": "/usr/bin:/bin", **given},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert f" {missing}: " in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.drill
def test_two_processes_train_what_was_launched(tmp_path):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(SOURCE)}
    plan = "plan nano-1m --gpu cpu-2core --gpus 2 --tokens 20k --seq-len 256 --global-batch 8"
    for words in (
        f"{plan} --precision fp32 --stack crore -o plan.json",
        "launch plan.json --to torchrun -o job",
    ):
        subprocess.run(
            [sys.executable, "-m", "crore", *words.split()],
            cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    done = subprocess.run(
        [tmp_path / "job" / "torchrun.sh", "--quiet"], env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "job" / "run" / "run.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert records[-1]["reason"] == "finished"
    assert sum(record["kind"] == "step" for record in records) == 10
