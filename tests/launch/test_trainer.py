"""What crore's own trainer would not carry out is refused before a file is written."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from crore.errors import InputError
from crore.launch import TARGETS, export
from crore.launch.trainer import health, left_out

OURS = ("torchrun", "slurm", "kubernetes", "skypilot")
REFUSED = {
    "schedule": {"pp": 8, "dp_shard": 8, "schedule": "dualpipe-v"},
    "offload": {"offload_optimizer": 1.0},
    "activations": {"offload_activations": 0.5},
    "precision": {"precision": "fp4"},
    "etp": {"ep": 8, "etp": 2},
}


@pytest.mark.parametrize("target", OURS)
@pytest.mark.parametrize("what", REFUSED)
def test_what_it_does_not_run_is_refused(make, target, what):
    with pytest.raises(InputError, match="crore train does not run"):
        export(target, make("dense", REFUSED[what]), "{}")


@pytest.mark.parametrize(("name", "said"), [("fleet", "worlds 1,920 to 1,928"), ("dense", "")])
def test_spare_gpus_become_spare_worlds_where_there_are_enough(make, name, said):
    launch = make(name)
    line = " ".join(it for it in left_out(launch) if "spare GPUs" in it)
    assert said in line
    few = " ".join(left_out(replace(launch, spares=launch.layout.ranks - 1)))
    assert "no world takes them" in few


def test_another_stacks_times_are_said(make):
    assert any("megatron-2025" in line for line in left_out(make("405b")))
    assert not any("stack" in line for line in left_out(make("dense")))


def test_every_target_says_its_version_and_what_it_leaves_out(make):
    for target in TARGETS:
        launch = make("dense", {"recompute": "full", "zero": 1})
        made = export(target, launch, "{}")
        assert made.target == target
        assert any(c.isdigit() for c in made.written_for)
        assert made.leaves_out
        assert made.world_file in {file.name for file in made.files}


def test_the_health_check_fails_where_cards_are_missing(make, tmp_path):
    script = tmp_path / "health.sh"
    script.write_text(health(make("dense")).text, encoding="utf-8")
    fake = tmp_path / "python"
    for seen, fits in ((8, True), (7, False)):
        fake.write_text(f"#!/bin/sh\ncase $2 in *print*) echo {seen};; esac\n", encoding="utf-8")
        fake.chmod(0o755)
        done = subprocess.run(
            ["bash", str(script)], env={"PYTHON": str(fake), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == fits, done.stderr
        assert fits or "7 of 8 GPUs" in done.stderr
